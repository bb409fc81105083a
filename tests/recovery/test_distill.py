"""Distillation, against torch's own divergence."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from secateur.core import RecipeError, Task
from secateur.recovery import Distill
from secateur.recovery.distill import distillation_loss

temperatures = st.floats(0.5, 8)


def logits(*shape, seed=0):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 5), st.integers(2, 6), temperatures)
def test_the_loss_is_torchs_divergence_times_the_squared_temperature(batch, classes, t):
    student, teacher = logits(batch, classes), logits(batch, classes, seed=1)
    expected = F.kl_div((student / t).log_softmax(-1), (teacher / t).softmax(-1), reduction="batchmean") * t * t
    torch.testing.assert_close(distillation_loss(student, teacher, t), expected, rtol=1e-4, atol=1e-6)


@given(temperatures)
def test_equal_logits_cost_nothing(t):
    assert distillation_loss(logits(4, 5), logits(4, 5), t).item() == 0


def test_a_constant_added_to_the_logits_changes_nothing():
    student, teacher = logits(4, 5), logits(4, 5, seed=1)
    torch.testing.assert_close(distillation_loss(student + 7, teacher, 2.0), distillation_loss(student, teacher, 2.0))


def test_the_loss_is_the_mean_over_all_positions_of_a_sequence():
    student, teacher = logits(2, 3, 5), logits(2, 3, 5, seed=1)
    flat = distillation_loss(student.flatten(0, 1), teacher.flatten(0, 1), 2.0)
    torch.testing.assert_close(distillation_loss(student, teacher, 2.0), flat)


def test_the_gradients_size_does_not_hang_on_a_high_temperature():
    student, teacher = logits(4, 5).requires_grad_(), logits(4, 5, seed=1)
    norms = [torch.autograd.grad(distillation_loss(student, teacher, t), student)[0].norm() for t in (50.0, 100.0)]
    torch.testing.assert_close(norms[0], norms[1], rtol=0.05, atol=0)


def test_logits_in_bfloat16_are_compared_in_float32():
    assert distillation_loss(logits(2, 3).bfloat16(), logits(2, 3).bfloat16(), 2.0).dtype == torch.float32


def batch():
    return logits(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])


def healing(model, **settings):
    return Distill(**settings).begin(model, Task(train=[batch()], test=[batch()]))


def test_the_loss_is_shared_between_task_and_teacher():
    model = nn.Linear(3, 2)
    work, outputs, loss = healing(model, weight=0.25, temperature=3.0), logits(6, 2), torch.tensor(2.0)
    expected = 0.75 * 2.0 + 0.25 * distillation_loss(outputs, model(batch()[0]).detach(), 3.0)
    torch.testing.assert_close(work.loss(loss, outputs, batch()), expected)


def test_the_teacher_is_the_model_as_it_was():
    model = nn.Linear(3, 2)
    work, outputs = healing(model, weight=1.0), model(batch()[0]).detach()
    with torch.no_grad():
        model.weight.zero_()
    assert work.loss(torch.tensor(9.0), outputs, batch()).item() == pytest.approx(0, abs=1e-6)


def test_the_teacher_gets_no_gradient_and_no_dropout():
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(3, 2))
    work, outputs = healing(model, weight=1.0), logits(6, 2).requires_grad_()
    first, second = (work.loss(torch.tensor(0.0), outputs, batch()) for _ in range(2))
    first.backward()
    assert torch.equal(first, second) and outputs.grad is not None
    assert model[1].weight.grad is None and model.training and model[1].weight.requires_grad


@pytest.mark.parametrize("settings", [{"weight": 1.1}, {"weight": -0.1}, {"temperature": 0}], ids=str)
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(RecipeError, match=r"weight lies in \[0, 1\], temperature above 0"):
        Distill(**settings)
