"""Fine-tuning: learning rates by position, optimizers, and what is left to the task."""

import math

import pytest
import torch
from torch import nn

from secateur.core import RecipeError, Task, Training
from secateur.recovery import FineTune, lr_at, optimizer_for


def rates(steps=8, **settings):
    return [lr_at(Training(lr=0.4, **settings), i, steps) for i in range(steps)]


def test_constant_stays():
    assert rates(lr_schedule="constant") == [0.4] * 8


def test_cosine_falls_from_the_peak_towards_zero():
    assert rates(lr_schedule="cosine") == pytest.approx([0.2 * (1 + math.cos(math.pi * i / 8)) for i in range(8)])


def test_linear_falls_from_the_peak_towards_zero():
    assert rates(lr_schedule="linear") == pytest.approx([0.4 * (1 - i / 8) for i in range(8)])


def test_linear_falls_over_what_the_warmup_leaves():
    assert rates(10, lr_schedule="linear", warmup=0.2) == pytest.approx(
        [0.2, 0.4] + [0.4 * (1 - i / 8) for i in range(8)]
    )


def test_step_falls_to_a_tenth_at_one_half_and_again_at_three_quarters():
    assert rates(lr_schedule="step") == pytest.approx([0.4] * 4 + [0.04] * 2 + [0.004] * 2)


def test_warmup_rises_linearly_to_the_peak():
    assert rates(lr_schedule="constant", warmup=0.5) == pytest.approx([0.1, 0.2, 0.3, 0.4] + [0.4] * 4)


def test_the_schedule_begins_after_the_warmup():
    assert rates(lr_schedule="cosine", warmup=0.5)[4:] == pytest.approx(
        [0.2 * (1 + math.cos(math.pi * i / 4)) for i in range(4)]
    )


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "step"])
def test_a_leg_that_is_all_warmup_ends_at_the_peak(schedule):
    assert rates(4, lr_schedule=schedule, warmup=1.0)[-1] == 0.4


def test_an_unknown_schedule_suggests_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'cosine'"):
        rates(lr_schedule="cosin")


@pytest.mark.parametrize(
    "name, kind", [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_an_optimizer_is_made_by_name_with_the_trainings_settings(name, kind):
    optimizer = optimizer_for(nn.Linear(2, 2), Training(optimizer=name, lr=0.3, weight_decay=0.2, momentum=0.7))
    (group,) = optimizer.param_groups
    assert type(optimizer) is kind and (group["lr"], group["weight_decay"]) == (0.3, 0.2)
    assert group.get("momentum", 0.7) == 0.7


def test_an_optimizer_holds_what_wants_gradients():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    ((only,),) = [g["params"] for g in optimizer_for(model, Training()).param_groups]
    assert only is model.weight


def test_an_optimizer_holds_more_where_it_is_told():
    more = nn.Parameter(torch.zeros(3))
    (group,) = optimizer_for(nn.Linear(2, 2).requires_grad_(False), Training(), [more]).param_groups
    assert [id(p) for p in group["params"]] == [id(more)]


def test_an_unknown_optimizer_suggests_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'sgd'"):
        optimizer_for(nn.Linear(2, 2), Training(optimizer="sdg"))


TASK = Task(train=[], test=[], training=Training(epochs=9, optimizer="sgd", lr=0.5, clip=1.0))


def test_what_is_left_open_is_as_the_task_trains():
    assert FineTune().training(TASK) == TASK.training


def test_what_is_given_counts_even_where_it_is_zero():
    training = FineTune(epochs=0, lr=0.01, momentum=0.0).training(TASK)
    assert (training.epochs, training.lr, training.momentum, training.optimizer) == (0, 0.01, 0.0, "sgd")


@pytest.mark.parametrize("epochs", [-1, float("nan")])
def test_negative_epochs_are_refused(epochs):
    with pytest.raises(RecipeError, match="0 or more"):
        FineTune(epochs=epochs)


def test_shares_are_of_what_the_task_does():
    training = FineTune(epochs_share=0.25, lr_share=0.1).training(TASK)
    assert (training.epochs, training.lr) == (9 / 4, 0.05)
    assert FineTune(epochs=3, lr=0.2, epochs_share=0.25, lr_share=0.1).training(TASK).epochs == 3


@pytest.mark.parametrize("wrong", [{"epochs_share": 0}, {"lr_share": -1.0}])
def test_a_share_of_nothing_is_refused(wrong):
    with pytest.raises(RecipeError, match="above 0"):
        FineTune(**wrong)
