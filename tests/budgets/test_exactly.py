"""Exactly so many units go: the lowest of all, and no more than may."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import secateur as sc
from secateur.budgets import Exactly
from secateur.core import Group, Space, Stats

scores = st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=5), min_size=1, max_size=4)


def space_of(lists, floor=0, **more):
    return Space(tuple(Group(f"g{i}", (len(s),), floor=floor, **more) for i, s in enumerate(lists)))


@given(scores, st.data())
def test_the_lowest_of_all_go_and_no_others(lists, data):
    space = space_of(lists)
    units = data.draw(st.integers(0, space.size - 1))
    values = {f"g{i}": torch.tensor(s, dtype=torch.float64) for i, s in enumerate(lists)}
    budget = Exactly(units)
    _, counts = budget.allocate(space, Stats(scores=values), budget.target(space))
    assert space.size - sum(counts.values()) == units
    ranked = sorted((v, i, j) for i, s in enumerate(lists) for j, v in enumerate(s))
    gone = [i for _, i, _ in ranked[:units]]
    assert counts == {f"g{i}": len(s) - gone.count(i) for i, s in enumerate(lists)}


@given(scores, st.integers(0, 2))
def test_more_than_may_go_are_refused_and_as_many_are_not(lists, floor):
    space = space_of(lists, floor=min(floor, min(map(len, lists))))
    most = space.size - max(sum(g.floor for g in space), 1)
    assert Exactly(most).target(space).sparsity == pytest.approx(most / space.size)
    with pytest.raises(sc.BudgetError, match=f"no more than {most} may"):
        Exactly(most + 1).target(space)


def test_the_error_names_the_units_that_have_names():
    space = Space((Group("stage", (2,), names=("stage.0", "stage.1")), Group("other", (1,))))
    with pytest.raises(sc.BudgetError, match=r"stage\.0, stage\.1; 1 of 'other'"):
        Exactly(3).target(space)


def test_fewer_than_none_are_refused():
    with pytest.raises(sc.RecipeError, match="0 or more"):
        Exactly(-1)


def test_it_implies_the_target_of_a_call():
    model = sc.tasks.builtin_model("digits-mlp")
    recipe = sc.Recipe(sc.structures.Weights(), sc.scores.Magnitude(), budget=Exactly(100))
    result = sc.prune(model, recipe)
    assert sum(m.numel() for m in result.keep.masks.values()) - sum(result.keep.counts.values()) == 100
