"""The running mean of the weights: a formula, cuts that begin it anew, masks that hold."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import RecipeError, attach_mask_
from secateur.recovery import MovingAverage
from secateur.recovery.moving_average import averaged


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=12), st.floats(0, 0.99))
def test_it_equals_the_formula_written_as_a_loop(values, decay):
    mean, slow = torch.tensor(float("nan")), values[0]
    mean = torch.tensor(0.0)
    for t, value in enumerate(values):
        mean = averaged(mean, torch.tensor(value), t, decay)
        d = min(decay, (1 + t) / (10 + t))
        slow = value if t == 0 else d * slow + (1 - d) * value
    torch.testing.assert_close(mean, torch.tensor(slow), rtol=1e-4, atol=1e-4)


def test_the_first_value_is_taken_as_it_is_and_equal_values_stay():
    x = torch.randn(3)
    assert torch.equal(averaged(torch.full((3,), 7.0), x, 0, 0.9), x)
    torch.testing.assert_close(averaged(x, x, 5, 0.9), x)


def begun(model, decay=0.9):
    return MovingAverage(decay).begin(model, sc.Task(train=[], test=[]))


def test_the_model_ends_with_the_mean_of_weights_and_statistics():
    model = nn.BatchNorm1d(2)
    healing = begun(model)
    for value in (1.0, 3.0):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)
        healing.after_step_()
    healing.finish_()
    expected = torch.full((2,), 2 / 11 * 1.0 + 9 / 11 * 3.0)
    torch.testing.assert_close(model.weight.detach(), expected)
    torch.testing.assert_close(model.running_mean, expected)


def test_a_cut_begins_a_new_mean():
    model = nn.Linear(2, 3)
    healing = begun(model)
    healing.after_step_()
    model.weight, model.bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    healing.after_step_()
    healing.finish_()
    assert torch.equal(model.weight, torch.ones(2, 2))


def test_what_is_masked_stays_zero():
    model = nn.Linear(2, 1)
    model.weight.data.fill_(1.0)
    healing = begun(model)
    healing.after_step_()
    attach_mask_(model, "weight", torch.tensor([[True, False]]))
    healing.after_step_()
    healing.finish_()
    assert model.weight.tolist() == [[1.0, 0.0]]


def test_its_state_goes_on_elsewhere():
    models = [nn.Linear(2, 1), nn.Linear(2, 1)]
    first = begun(models[0])
    first.after_step_()
    second = begun(models[1])
    second.restore(first.state())
    models[1].load_state_dict(models[0].state_dict())
    for model, healing in zip(models, (first, second), strict=True):
        model.weight.data.mul_(3)
        healing.after_step_()
        healing.finish_()
    assert torch.equal(models[0].weight, models[1].weight)


def test_without_a_step_nothing_is_changed():
    model = nn.Linear(2, 1)
    before = model.weight.detach().clone()
    begun(model).finish_()
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(RecipeError, match="below 1"):
        MovingAverage(decay)
