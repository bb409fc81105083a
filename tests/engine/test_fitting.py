"""Targets of a cost: floors, multiples and budgets together, and what is said when they cannot be met."""

import pytest
import torch

import secateur as sc

BUDGETS = [sc.budgets.Uniform(), sc.budgets.Global(), sc.budgets.WithFloor(sc.budgets.Global(), 3)]


def cut(budget, structure, **target):
    torch.manual_seed(0)
    recipe = sc.Recipe(structure=structure, score=sc.scores.Magnitude(), budget=budget)
    result = sc.prune(sc.tasks.builtin_model("digits-cnn"), recipe, example=torch.randn(2, 1, 8, 8), **target)
    return {name: int(mask.sum()) for name, mask in result.keep.masks.items()}, result


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: type(b).__name__)
@pytest.mark.parametrize("target", [{"sparsity": 0.4}, {"macs": 0.4}], ids=str)
def test_every_budget_gives_multiples_where_the_structure_wants_them(budget, target):
    stays, _ = cut(budget, sc.structures.Channels(multiple=8), **target)
    assert all(n % 8 == 0 for n in stays.values())


def test_a_floor_that_is_no_multiple_is_raised_to_one():
    stays, _ = cut(sc.budgets.Uniform(), sc.structures.Channels(multiple=8, floor=12), sparsity=0.7)
    assert stays == {"conv1": 16, "conv2": 16, "conv3": 16}


@pytest.mark.parametrize("share", [0.05, 0.12, 0.3])
def test_a_global_budget_reaches_targets_beyond_where_some_shares_are_forbidden(share):
    _, result = cut(sc.budgets.Global(), sc.structures.Channels(), macs=share)
    assert result.after["macs"] / result.before["macs"] == pytest.approx(share, rel=0.05)


@pytest.mark.parametrize("budget", BUDGETS[:2], ids=lambda b: type(b).__name__)
def test_the_error_names_a_share_that_can_be_met(budget):
    with pytest.raises(sc.BudgetError, match=r"macs=0\.103 or more"):
        cut(budget, sc.structures.Channels(floor=8), macs=0.1)
    stays, _ = cut(budget, sc.structures.Channels(floor=8), macs=0.104)
    assert min(stays.values()) == 8
