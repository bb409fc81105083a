"""Caps, classes of alike groups, and equal shares of what earlier cuts left."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import Global, Isomorphic, Uniform, WithCap
from secateur.core import BudgetError, Group, Member, RecipeError, Site, Space, Stats, Target, kept_count

sizes = st.lists(st.integers(1, 30), min_size=1, max_size=5)


def drawn(sizes, seed=0):
    g = torch.Generator().manual_seed(seed)
    space = Space(tuple(Group(f"g{i}", (n,)) for i, n in enumerate(sizes)))
    return space, {group.name: torch.rand(group.size, generator=g) for group in space}


@given(sizes, st.floats(0.1, 1), st.floats(0, 0.95), st.integers(0, 99))
def test_no_group_loses_more_than_the_cap_and_the_total_is_exact(sizes, most, sparsity, seed):
    space, scores = drawn(sizes, seed)
    try:
        refined, counts = WithCap(Global(), most).allocate(space, Stats(scores=scores), Target(sparsity))
    except BudgetError:
        assert sparsity > most * 0.5  # the caps leave too little to take, after rounding up
        return
    assert sum(counts.values()) == kept_count(sparsity, sum(sizes))
    assert all(g.size - counts[g.name] <= most * g.size + 1e-9 for g in refined)


def test_the_cap_counts_what_was_there_at_first():
    space, scores = drawn([5, 20])
    scores["g0"] -= 10
    evidence = Stats(scores=scores, sizes={"g0": 10, "g1": 20})
    _, counts = WithCap(Global(), 0.6).allocate(space, evidence, Target(0.2))
    assert counts == {"g0": 4, "g1": 16}  # one more may go of the ten, not three of the five


def test_a_cap_outside_its_range_is_refused():
    with pytest.raises(RecipeError, match="most is 0"):
        WithCap(Global(), 0)


def member(tensor, dim, units):
    site = Site("w", tensor, (dim, *(d for d in range(tensor.dim()) if d != dim)), 1, (1, tensor[0].numel()))
    return Member(Group("w", site.shape, site=site), dim, torch.arange(units)[:, None], frozenset({"producer"}))


def test_groups_compete_within_their_pattern_only():
    conv, linear = torch.zeros(4, 1, 3, 3), torch.zeros(4, 2)
    kinds = {"a": conv, "b": linear, "c": conv}
    space = Space(tuple(Group(n, (4,), members=(member(t, 0, 4),)) for n, t in kinds.items()))
    scores = {"a": torch.arange(4.0), "b": torch.arange(4.0) - 100, "c": torch.arange(4.0) + 100}
    refined, counts = Isomorphic(Global()).allocate(space, Stats(scores=scores), Target(0.5))
    assert counts == {"a": 0, "b": 2, "c": 4} and [g.name for g in refined] == ["a", "b", "c"]


@given(sizes, st.floats(0, 0.9))
def test_one_class_is_the_inner_budget(sizes, sparsity):
    space, scores = drawn(sizes)
    evidence, target = Stats(scores=scores), Target(sparsity)
    assert Isomorphic(Global()).allocate(space, evidence, target)[1] == Global().allocate(space, evidence, target)[1]


@given(sizes, st.integers(0, 9))
def test_equal_shares_after_a_cut_are_of_what_each_group_had(sizes, tenths):
    first, _ = drawn(sizes)
    sparsity = tenths / 10
    _, once = Uniform().allocate(first, Stats(), Target(sparsity))
    left, _ = drawn([max(n - 1, once[f"g{i}"], 1) for i, n in enumerate(sizes)])
    now = Target(max(0.0, 1 - (1 - sparsity) * sum(sizes) / left.size))
    _, twice = Uniform().allocate(left, Stats(sizes={g.name: g.size for g in first}), now)
    assert twice == {g.name: min(once[g.name], g.size) for g in left} or now.sparsity == 0
