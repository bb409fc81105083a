"""Knapsack against all subsets, and what a target's cost means to it."""

import logging
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import Global, Knapsack
from secateur.budgets import knapsack as module
from secateur.budgets.knapsack import exact_keep, greedy_keep, unit_costs
from secateur.core import BudgetError, Group, RecipeError, Space, Stats, Target, kept_count

items = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), min_size=1, max_size=9)
groups = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=3)


def columns(pairs):
    values, costs = zip(*pairs, strict=True)
    return torch.tensor(values, dtype=torch.float64), torch.tensor(costs, dtype=torch.float64)


def best_of_all(values, costs, capacity):
    found = 0.0
    for choice in product((False, True), repeat=len(values)):
        keep = torch.tensor(choice)
        if costs[keep].sum() <= capacity:
            found = max(found, float(values[keep].sum()))
    return found


@given(items, st.integers(0, 60))
def test_the_exact_knapsack_is_as_good_as_the_best_of_all_subsets(pairs, capacity):
    values, costs = columns(pairs)
    keep = exact_keep(values, [int(c) for c in costs], capacity)
    assert costs[keep].sum() <= capacity
    assert values[keep].sum() == pytest.approx(best_of_all(values, costs, capacity))


@given(items, st.integers(0, 60))
def test_the_greedy_knapsack_fits_and_drops_no_item_too_many(pairs, capacity):
    values, costs = columns(pairs)
    keep = greedy_keep(values, costs, capacity)
    assert costs[keep].sum() <= capacity
    dropped = (~keep).nonzero().flatten()
    if len(dropped):
        last = max(dropped.tolist(), key=lambda i: (float(values[i] / costs[i]), i))
        assert costs[keep].sum() + costs[last] > capacity


@given(items, st.integers(0, 60))
def test_greedy_loses_less_than_the_most_valuable_item_to_the_best(pairs, capacity):
    values, costs = columns(pairs)
    greedy = float(values[greedy_keep(values, costs, capacity)].sum())
    assert greedy > best_of_all(values, costs, capacity) - float(values.max()) - 1e-9


def test_cheap_items_go_after_dear_ones_of_the_same_value():
    keep = greedy_keep(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 4.0, 2.0]), 3)
    assert keep.tolist() == [True, False, True]


@pytest.mark.parametrize("solver", ["greedy", "exact"])
def test_items_without_value_fill_the_knapsack_all_the_same(solver):
    values, costs = torch.zeros(4), torch.ones(4)
    keep = greedy_keep(values, costs, 3) if solver == "greedy" else exact_keep(values, [1] * 4, 3)
    assert keep.sum() == 3


def drawn(shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    space = Space(tuple(Group(f"g{i}", (n,), floor=min(f, n), costs={"macs": c}) for i, (n, c, f) in enumerate(shape)))
    return space, Stats(scores={group.name: torch.rand(group.size, generator=g) for group in space})


@pytest.mark.parametrize("solver", ["greedy", "exact"])
@given(groups, st.floats(0, 0.9), st.integers(0, 99))
def test_a_share_of_units_is_met_exactly(solver, shape, sparsity, seed):
    space, stats = drawn(shape, seed)
    try:
        _, counts = Knapsack(solver).allocate(space, stats, Target(sparsity))
    except BudgetError:
        assert kept_count(sparsity, space.size) < sum(g.floor for g in space)
        return
    assert sum(counts.values()) == kept_count(sparsity, space.size)
    assert all(counts[g.name] >= g.floor for g in space)


@given(groups, st.floats(0, 0.9), st.integers(0, 99))
def test_by_units_it_is_a_global_ranking(shape, sparsity, seed):
    space, stats = drawn([(n, c, 0) for n, c, _ in shape], seed)
    target = Target(sparsity)
    assert Knapsack().allocate(space, stats, target)[1] == dict(Global().allocate(space, stats, target)[1])


@given(groups, st.floats(0, 0.7), st.integers(0, 99))
def test_counts_of_the_exact_knapsack_are_worth_as_much_as_any_that_fit(shape, sparsity, seed):
    space, stats = drawn(shape, seed)
    limit = (1 - sparsity) * sum(g.size * g.costs["macs"] for g in space)
    ranked = {g.name: stats.scores[g.name].sort(descending=True).values for g in space}

    def worth(counts):
        return float(sum(ranked[n][:c].sum() for n, c in counts.items()))

    legal = [
        dict(zip(ranked, counts, strict=True))
        for counts in product(*(range(g.floor, g.size + 1) for g in space))
        if sum(c * g.costs["macs"] for c, g in zip(counts, space, strict=True)) <= limit + 1e-9
    ]
    if not legal:
        with pytest.raises(BudgetError, match="floors alone cost"):
            Knapsack("exact").allocate(space, stats, Target(sparsity, "macs"))
        return
    _, counts = Knapsack("exact").allocate(space, stats, Target(sparsity, "macs"))
    assert worth(counts) == pytest.approx(max(worth(c) for c in legal), abs=1e-5)


def test_costs_that_are_no_sum_come_from_half_of_each_group():
    space = Space((Group("a", (4,)), Group("b", (2,))), totals={"macs": lambda k: 3.0 * stays(k, "a", 4) + 10})
    assert unit_costs(space, "macs") == {"a": 3.0, "b": 0.0}


def stays(keep, name, size):
    return int(keep[name].sum()) if name in keep else size


def test_costs_that_are_not_whole_fit_as_well():
    space = Space(tuple(Group(n, (10,), costs={"latency": c}) for n, c in (("a", 0.37), ("b", 1.21))))
    stats = Stats(scores={g.name: torch.rand(10, generator=torch.Generator().manual_seed(1)) for g in space})
    _, counts = Knapsack("exact").allocate(space, stats, Target(0.5, "latency"))
    assert 0.37 * counts["a"] + 1.21 * counts["b"] <= 7.9


def test_a_table_too_large_gives_way_to_greedy_and_says_so(monkeypatch, caplog):
    space, stats = drawn([(5, 3, 0), (5, 7, 0)])
    monkeypatch.setattr(module, "_CELLS", 10)
    with caplog.at_level(logging.WARNING):
        _, counts = Knapsack("exact").allocate(space, stats, Target(0.5, "macs"))
    assert counts == Knapsack().allocate(space, stats, Target(0.5, "macs"))[1]
    assert "greedy is used" in caplog.text


def test_an_unknown_cost_is_named():
    space, stats = drawn([(3, 1, 0)])
    with pytest.raises(RecipeError, match="joules"):
        Knapsack().allocate(space, stats, Target(0.5, "joules"))
