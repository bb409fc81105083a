"""Sparse training of scales: the schedule, the selector, and every gradient against the formula."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import Group, Keep, RecipeError
from secateur.recovery import FineTune, ScaleSparsity
from secateur.recovery.scale_sparsity import Dynamic, Selected, Steady, dynamic_factor
from secateur.schedules import OneShot
from secateur.scores import NormScale
from secateur.structures import Channels


@given(st.floats(0, 1), st.lists(st.booleans(), min_size=1, max_size=6))
def test_the_schedule_rises_holds_and_lets_the_upper_half_go(progress, above):
    for factor, high in zip(dynamic_factor(progress, torch.tensor(above)).tolist(), above, strict=True):
        expected = min(1, progress * 10) if progress < 0.7 else 0.01 if high else 1
        assert factor == pytest.approx(expected)


def net():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.Flatten(), nn.Linear(16, 2)
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -2.0, 0.1]))
    return model


def task():
    g = torch.Generator().manual_seed(0)
    batches = [(torch.randn(4, 1, 2, 2, generator=g), torch.randint(2, (4,), generator=g)) for _ in range(2)]
    return sc.Task(train=batches, test=batches, training=sc.Training(epochs=1, lr=1e-3))


def gradients(recovery, model=None, step=0):
    """What one step adds to gradients of zero, by name."""
    model = net() if model is None else model
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    healing = recovery.begin(model, task())
    healing.restore({"step": torch.tensor(step)})
    healing.before_step_()
    return {n: p.grad for n, p in model.named_parameters() if p.grad.any()}


def test_a_scale_gets_the_sign_of_itself():
    added = gradients(ScaleSparsity(Channels(include=("1",)), 1, 0.1))
    assert added.keys() == {"1.weight"}
    torch.testing.assert_close(added["1.weight"], torch.tensor([0.1, -0.1, 0.1]))


def test_a_unit_without_a_norm_gets_the_gradient_of_its_length():
    model = net()
    added = gradients(ScaleSparsity(Channels(exclude=("1",)), 1, 0.1), model)
    assert added.keys() == {"2.weight"}
    length = sum(model[2].weight[k].norm() for k in range(4))
    torch.testing.assert_close(added["2.weight"], torch.autograd.grad(0.1 * length, model[2].weight)[0])


def test_only_what_a_keep_removes_is_shrunk():
    keep = Keep({"0": torch.tensor([True, False, True])})
    added = gradients(ScaleSparsity(Channels(), 1, 0.1, Selected(keep)))
    assert added.keys() == {"1.weight"}
    torch.testing.assert_close(added["1.weight"], torch.tensor([0.0, -0.1, 0.0]))


def test_a_keep_of_another_size_is_refused_by_name():
    with pytest.raises(RecipeError, match="group 'g'"):
        Selected(Keep({"g": torch.ones(2, dtype=torch.bool)}))(0.5, Group("g", (3,)), torch.ones(3), 1.0)


def test_late_only_the_lower_half_of_a_section_is_shrunk():
    recovery = ScaleSparsity(Channels(include=("1",)), 5, 0.1, Dynamic())
    torch.testing.assert_close(gradients(recovery, step=9)["1.weight"], torch.tensor([0.1, -0.001, 0.1]))


def test_the_first_step_of_the_dynamic_rate_adds_nothing():
    assert not gradients(ScaleSparsity(Channels(), 5, 0.1, Dynamic()))


def test_it_ends_after_its_epochs():
    assert not gradients(ScaleSparsity(Channels(), 1, 0.1), step=2)


def test_scales_are_smaller_after_sparse_training():
    def after(strength):
        recipe = sc.Recipe(
            structure=Channels(include=("1",)),
            score=NormScale(),
            schedule=OneShot("40 epochs"),
            recovery=(FineTune(epochs=40, optimizer="sgd", lr=0.1), ScaleSparsity(Channels(), 40, strength, Steady())),
        )
        return sc.prune(net(), recipe, sparsity=0.34, task=task(), device="cpu").subject[1].weight.abs().sum()

    assert after(0.05) < 0.7 * after(0.0)


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"strength": -1.0}])
def test_a_setting_outside_its_range_says_how_to_mend_it(wrong):
    with pytest.raises(RecipeError, match="usual strengths"):
        ScaleSparsity(Channels(), **{"epochs": 1.0, **wrong})
