"""Budgets of whole layers: one run of them, and a prefix of an order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import Contiguous, Prefix
from secateur.core import BudgetError, Group, RecipeError, Space, SpanAngle, Stats, Target


def angles(size, seed=0):
    found = torch.rand(size, size, generator=torch.Generator().manual_seed(seed))
    for start in range(size):
        found[start, size - start :] = torch.inf
    return found


def stays(space, evidence, sparsity):
    refined, counts = Contiguous().allocate(space, evidence, Target(sparsity))
    kept = {}
    for group in refined:
        assert counts[group.name] == group.size  # what goes is in no group any more
        kept[group.parent or group.name] = list(range(group.size)) if group.index is None else group.index.tolist()
    return kept


@given(st.integers(2, 8), st.data(), st.integers(0, 999))
def test_the_run_with_the_least_angle_goes(size, data, seed):
    gone = data.draw(st.integers(0, size - 1))
    space, found = Space((Group("a", (size,)),)), angles(size, seed)
    kept = stays(space, Stats({("a", SpanAngle()): found}), gone / size)["a"]
    left = [i for i in range(size) if i not in kept]
    assert len(left) == gone
    if gone:
        assert left == list(range(left[0], left[0] + gone))
        assert found[left[0], gone - 1] == min(found[start, gone - 1] for start in range(size - gone + 1))


def test_of_several_groups_the_one_with_the_least_angle_loses_the_run():
    space = Space((Group("a", (3,)), Group("b", (4,), floor=1), Group("c", (1,))))
    a, b = torch.full((3, 3), 0.5), torch.full((4, 4), 0.6)
    b[1, 1] = 0.1
    evidence = Stats({("a", SpanAngle()): a, ("b", SpanAngle()): b, ("c", SpanAngle()): torch.zeros(1, 1)})
    assert stays(space, evidence, 2 / 8) == {"a": [0, 1, 2], "b": [0, 3], "c": [0]}


def test_a_run_that_stands_nowhere_is_refused():
    space = Space((Group("a", (3,), floor=1),))
    with pytest.raises(BudgetError, match="3 layers are to go in one run"):
        Contiguous().allocate(space, Stats({("a", SpanAngle()): angles(3)}), Target(0.9))
    broken = Stats({("a", SpanAngle()): torch.full((3, 3), torch.inf)})
    with pytest.raises(BudgetError, match="stand one after another"):
        Contiguous().allocate(space, broken, Target(0.66))


ORDER = torch.tensor([0.0, 3.0, 1.0, 2.0])


def prefix(labels=None, sparsity=0.5, floor=0, **settings):
    labels = None if labels is None else torch.tensor(labels)
    space = Space((Group("a", (4,), floor=floor, labels=labels, names=("w", "x", "y", "z")),))
    return Prefix(**settings).allocate(space, Stats(scores={"a": ORDER}), Target(sparsity))[1]["a"]


def test_a_prefix_is_what_the_order_says():
    assert [prefix(sparsity=s) for s in (0, 0.25, 0.5, 0.75)] == [4, 3, 2, 1]


def test_no_more_goes_than_the_order_was_found_for():
    assert prefix(most=0.5) == 2
    with pytest.raises(BudgetError, match=r"3 of 4 units.*\n.*\n.*most=0\.75"):
        prefix(most=0.5, sparsity=0.75)


def test_the_last_of_a_class_goes_only_by_force():
    assert prefix([0, 1, 1, 0], sparsity=0.25) == 3
    with pytest.raises(BudgetError, match=r"all units of a class would go: w, y.*(?s:.*)force=True"):
        prefix([0, 1, 0, 1], sparsity=0.5)
    assert prefix([0, 1, 0, 1], sparsity=0.5, force=True) == 2


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(RecipeError):
        Prefix(most=0.0)
