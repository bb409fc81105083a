"""What is the same for all methods of a comparison."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import RecipeError, SubjectError, Target
from secateur.engine.fairness import leg_epochs, of_size, parameters_left
from secateur.tasks import builtin_model, builtin_task

DATA = [(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))] * 7
TASK = sc.Task(train=DATA, test=DATA)
IMP = sc.core.registry.get("imp").recipe()


def mlp(width):
    return nn.Sequential(nn.Linear(6, max(1, round(40 * width))), nn.Linear(max(1, round(40 * width)), 3))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@given(st.integers(3, 40), st.floats(0.1, 0.98))
def test_the_legs_take_all_steps_but_less_than_one_each(epochs, sparsity):
    legs = IMP.schedule.legs(Target(sparsity))
    if epochs * 7 < legs:
        return
    steps = round(leg_epochs(TASK, IMP, Target(sparsity), epochs) * 7)
    assert 0 <= epochs * 7 - legs * steps < legs


def test_steps_that_do_not_go_round_are_an_error_that_says_what_to_do():
    with pytest.raises(RecipeError, match=r"7 steps cannot be divided among \d+ legs"):
        leg_epochs(TASK, IMP, Target(0.9), 1)


@given(st.integers(13, 400))
def test_the_small_model_is_the_nearest_of_all_widths(wanted):
    found = parameters(mlp(of_size(mlp, wanted)))
    every = {parameters(mlp(n / 40)) for n in range(1, 41)}
    assert abs(found - wanted) == min(abs(size - wanted) for size in every)


def test_a_factory_that_ignores_the_width_is_named():
    with pytest.raises(SubjectError, match="403 parameters at every width"):
        of_size(lambda width: mlp(1.0), 100)


def test_the_small_model_has_as_many_parameters_as_stay():
    model = mlp(1.0)
    assert parameters_left(model, builtin_task("digits"), 0.75, None) == parameters(model) - 0.75 * (240 + 120)
    assert parameters_left(model, builtin_task("digits"), None, "1:2") == parameters(model) - (240 + 120) / 2


@pytest.mark.parametrize("name", ["digits-cnn", "digits-mlp", "resnet20"])
def test_builtin_models_are_narrower_when_asked(name):
    sizes = [parameters(builtin_model(name, width)) for width in (0.1, 0.5, 1.0)]
    assert sizes == sorted(set(sizes)) and sizes[-1] == parameters(builtin_model(name))
