"""Competition at the price of units, against a walk down the sorted list."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import Global, Paid
from secateur.core import BudgetError, Group, RecipeError, Space, Stats, Target


def paid(scores, costs, sparsity, **more):
    both = enumerate(zip(scores, costs, strict=True))
    space = Space(tuple(Group(f"l{i}", (len(s),), costs={"params": c}) for i, (s, c) in both))
    stats = Stats(scores={f"l{i}": torch.tensor(s) for i, s in enumerate(scores)})
    return space, Paid(**more).allocate(space, stats, Target(sparsity))[1]


@given(st.lists(st.lists(st.floats(0, 2, width=32), min_size=1, max_size=8), min_size=1, max_size=4), st.data())
def test_paid_counts_end_where_the_walk_from_the_best_unit_costs_nearest_to_what_may_stay(rows, data):
    costs = [data.draw(st.integers(1, 9)) for _ in rows]
    sparsity = data.draw(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7]))
    _, counts = paid(rows, costs, sparsity)
    walk = sorted(((v, i, j) for i, row in enumerate(rows) for j, v in enumerate(row)), reverse=True)
    total = sum(c * len(row) for c, row in zip(costs, rows, strict=True))
    sums = [sum(costs[i] for _, i, _ in walk[:k]) for k in range(len(walk) + 1)]
    spent = sum(costs[i] * counts[f"l{i}"] for i in range(len(rows)))
    nearest = min(abs(s - (1 - sparsity) * total) for s in sums)
    assert abs(spent - (1 - sparsity) * total) == pytest.approx(nearest)
    best = walk[: sum(counts.values())]
    assert counts == {f"l{i}": sum(1 for _, k, _ in best if k == i) for i in range(len(rows))}


def test_a_dear_unit_uses_up_the_share_of_many_cheap_ones():
    _, counts = paid([[0.0, 3.0], [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]], [6, 1], 1 / 3)
    assert counts == {"l0": 1, "l1": 6}


def test_equal_costs_give_the_counts_of_plain_competition():
    g = torch.Generator().manual_seed(0)
    rows = [torch.rand(n, generator=g).tolist() for n in (7, 5, 9)]
    space, counts = paid(rows, [4, 4, 4], 3 / 7)
    stats = Stats(scores={f"l{i}": torch.tensor(s) for i, s in enumerate(rows)})
    assert counts == Global().allocate(space, stats, Target(3 / 7))[1]


def test_floors_stay_and_count_as_spent():
    _, counts = paid([[0.0, 0.1, 0.2], [5.0, 6.0, 7.0]], [1, 1], 0.5, floor=1)
    assert counts == {"l0": 1, "l1": 2}


def test_floors_that_cost_too_much_say_what_fits():
    with pytest.raises(BudgetError, match=r"sparsity of 0\.3333"):
        paid([[0.0, 0.1, 0.2], [5.0, 6.0, 7.0]], [1, 1], 0.5, floor=2)


def test_an_unknown_cost_names_those_that_there_are():
    space = Space((Group("a", (3,), costs={"params": 1.0}),))
    with pytest.raises(RecipeError, match="params"):
        Paid("parms").allocate(space, Stats(scores={"a": torch.ones(3)}), Target(0.5))
