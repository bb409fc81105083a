"""Pruning spaces: every draw lies in its band and keeps its floors, and what cannot be reached is said."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets.bands import drawn, first_units, share_of, top_units
from secateur.core import BudgetError, Group, RecipeError, Space, kept_count

sizes = st.lists(st.integers(8, 40), min_size=2, max_size=5)
seeds = st.integers(0, 2**16)


def chain(sizes):
    """Groups of a chain of layers: MACs are products of neighbours, the first layers cost most for each parameter."""
    groups = tuple(Group(f"g{i}", (n,), floor=1) for i, n in enumerate(sizes))

    def widths(keep):
        return [3, *(int(keep[g.name].sum()) if g.name in keep else g.size for g in groups), 5]

    def params(keep):
        w = widths(keep)
        return float(sum(a * b for a, b in itertools.pairwise(w)))

    def macs(keep):
        w = widths(keep)
        return float(sum(a * b * 4 ** (len(w) - i) for i, (a, b) in enumerate(itertools.pairwise(w))))

    return Space(groups, totals={"macs": macs, "params": params})


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@given(sizes, st.floats(0.3, 0.9), seeds, st.sampled_from(["macs", "params"]))
def test_every_draw_lies_in_its_band_and_keeps_its_floors(sizes, share, seed, cost):
    space = chain(sizes)
    found = drawn(space, cost, share, rng(seed))
    cheapest = min(1 - share_of(space, {**{h.name: h.size for h in space}, g.name: g.size - 1}, cost) for g in space)
    assert abs(share_of(space, found.counts, cost) - share) <= max(0.01 * share, cheapest / 2) + 1e-9
    assert all(max(1, 0.1 * g.size - 1e-9) <= found.counts[g.name] <= g.size for g in space)
    assert found.ratio == space.totals["macs"](first_units(space, found.counts)) / found.params


@given(sizes, st.floats(0.3, 0.95), seeds)
def test_of_units_exactly_the_share_stays(sizes, share, seed):
    space = chain(sizes)
    assert sum(drawn(space, "", share, rng(seed)).counts.values()) == kept_count(round(1 - share, 12), space.size)


def test_draws_differ_and_the_same_seed_gives_the_same_one():
    space = chain([30, 30, 30])
    first, again, other = (drawn(space, "macs", 0.5, rng(s)).counts for s in (1, 1, 2))
    assert first == again != other


def test_who_is_narrower_of_equal_groups_is_chance():
    space = chain([30, 30, 30])
    found = [drawn(space, "params", 0.5, rng(s)).counts for s in range(40)]
    assert 8 < sum(c["g0"] < c["g1"] for c in found) < 32


def test_a_band_below_the_floors_gives_the_reachable_interval():
    with pytest.raises(BudgetError, match=r"lies between 0\.32\d* and 1"):
        drawn(chain([20, 20]), "params", 0.05, rng(), least=0.5)


def test_draws_that_all_miss_give_the_interval_as_well():
    with pytest.raises(BudgetError, match="can be reached"):
        space = chain([20, 20])
        drawn(space, "macs", 0.5, rng(), tries=0)


def test_a_space_that_does_not_know_its_cost_is_refused():
    with pytest.raises(RecipeError, match="no total of 'macs'"):
        drawn(Space((Group("g", (4,)),)), "", 0.5, rng())


def test_top_units_are_those_with_the_highest_scores():
    space = Space((Group("g", (4,)),))
    assert top_units(space, {"g": 2}, {"g": torch.tensor([1.0, 4.0, 2.0, 3.0])})["g"].tolist() == [0, 1, 0, 1]
