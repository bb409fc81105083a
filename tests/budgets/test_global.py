"""Global competition, floors and fixed sparsities, against plain sorting."""

import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from secateur.budgets import Fixed, Global, Uniform, WithFloor
from secateur.budgets.floor import floored
from secateur.budgets.global_ import global_counts
from secateur.core import BudgetError, Group, RecipeError, Space, Stats, Target, count

values = st.sampled_from([-float("inf"), 0.0, -0.0, 0.25, 0.5, 1.0]) | st.floats(0, 2, width=32)
rows = st.lists(st.lists(values, max_size=12), min_size=1, max_size=5)


@given(rows, st.data())
def test_counts_are_those_of_a_sort_of_all_units_by_score_tensor_and_index(rows, data):
    pool = sorted((v, i, j) for i, row in enumerate(rows) for j, v in enumerate(row))
    stay = data.draw(st.integers(0, len(pool)))
    survivors = [i for _, i, _ in pool[len(pool) - stay :]]
    counts = global_counts({str(i): torch.tensor(row) for i, row in enumerate(rows)}, stay)
    assert counts == {str(i): survivors.count(i) for i in range(len(rows))}


def test_counts_of_large_tensors_are_those_of_a_sort():
    g = torch.Generator().manual_seed(0)
    scores = {"a": torch.rand(300, 200, generator=g).round(decimals=3), "b": torch.rand(40_000, generator=g) * 0.5}
    owners = torch.cat([torch.zeros(60_000), torch.ones(40_000)])
    order = torch.argsort(torch.cat([scores["a"].flatten(), scores["b"]]), stable=True)
    for stay in (1, 10_000, 70_000):
        kept = owners[order[100_000 - stay :]]
        assert global_counts(scores, stay) == {"a": int((kept == 0).sum()), "b": int((kept == 1).sum())}


def space_of(*sizes, **more):
    return Space(tuple(Group(f"l{i}", (n,), **more) for i, n in enumerate(sizes)))


def test_units_that_are_gone_stay_gone_before_any_other_goes():
    scores = {"l0": torch.tensor([-float("inf"), 1.0, 2.0]), "l1": torch.tensor([-float("inf"), 0.1, 3.0])}
    _, counts = Global().allocate(space_of(3, 3), Stats(scores=scores), Target(0.5))
    assert counts == {"l0": 2, "l1": 1}


layers = st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1)), min_size=1, max_size=7)


def counted(layers):
    sizes = [n for n, _ in layers]
    return space_of(*sizes), {f"l{i}": round(n * share) for i, (n, share) in enumerate(layers)}


@given(layers, st.integers(0, 12))
def test_a_floor_holds_and_the_sum_stays(layers, floor):
    space, counts = counted(layers)
    least = {g.name: min(floor, g.size) for g in space}
    assume(sum(least.values()) <= sum(counts.values()))
    result = floored(counts, space, floor, "test")
    assert sum(result.values()) == sum(counts.values())
    assert all(least[n] <= result[n] <= space[n].size for n in result)


@given(layers, st.integers(0, 12))
def test_groups_that_were_raised_stop_at_the_floor(layers, floor):
    space, counts = counted(layers)
    least = {g.name: min(floor, g.size) for g in space}
    assume(sum(least.values()) <= sum(counts.values()))
    result = floored(counts, space, floor, "test")
    assert all(result[n] == least[n] for n in counts if counts[n] < least[n])


@given(layers, st.integers(0, 12))
def test_no_group_gains_beyond_the_floor(layers, floor):
    space, counts = counted(layers)
    assume(sum(min(floor, g.size) for g in space) <= sum(counts.values()))
    result = floored(counts, space, floor, "test")
    assert all(result[n] <= max(counts[n], min(floor, space[n].size)) for n in counts)


def test_counts_above_the_floor_are_left_as_they_are():
    space, counts = space_of(10, 20), {"l0": 3, "l1": 17}
    assert floored(counts, space, 3, "test") == counts


def test_the_free_groups_scale_their_sparsity_up_alike():
    """l0 rises by 10; l1 lost 50 of 100 and l2 150 of 200, so they share the ten more as 1 to 3, to a unit."""
    space = space_of(50, 100, 200)
    assert floored({"l0": 0, "l1": 50, "l2": 50}, space, 10, "test") in (
        {"l0": 10, "l1": 48, "l2": 42},
        {"l0": 10, "l1": 47, "l2": 43},
    )


def test_a_group_that_pays_may_fall_to_the_floor_itself():
    result = floored({"l0": 0, "l1": 11, "l2": 100}, space_of(100, 1000, 200), 10, "test")
    assert result["l0"] == result["l1"] == 10 and result["l2"] == 91


@given(layers, st.integers(1, 60), st.lists(st.integers(0, 3), min_size=7, max_size=7))
def test_an_infeasible_floor_names_the_largest_feasible_one(layers, floor, own):
    space, counts = counted(layers)
    space = space.replaced(floor={g.name: min(f, counts[g.name]) for g, f in zip(space, own, strict=False)})
    assume(sum(max(min(floor, g.size), g.floor) for g in space) > sum(counts.values()))
    with pytest.raises(BudgetError) as caught:
        floored(counts, space, floor, "test")
    named = int(re.search(r"a floor of (\d+) at most", str(caught.value))[1])
    assert sum(floored(counts, space, named, "test").values()) == sum(counts.values())
    with pytest.raises(BudgetError):
        floored(counts, space, named + 1, "test")


def test_the_largest_feasible_floor_knows_the_floors_of_the_structure():
    space = space_of(3, 10).replaced(floor={"l0": 3})
    with pytest.raises(BudgetError, match="a floor of 1 at most"):
        floored({"l0": 3, "l1": 1}, space, 4, "test")


def test_a_floor_given_as_a_share_is_of_all_units():
    space = space_of(900, 100)
    scores = {"l0": torch.rand(900) + 1, "l1": torch.rand(100)}
    _, counts = WithFloor(Global(), 0.02).allocate(space, Stats(scores=scores), Target(0.9))
    assert counts == {"l0": 80, "l1": count(0.02, 1000)}


def test_globals_own_floor_is_a_number_of_units():
    scores = {"l0": torch.rand(90) + 1, "l1": torch.rand(10)}
    _, counts = Global(floor=4).allocate(space_of(90, 10), Stats(scores=scores), Target(0.9))
    assert counts == {"l0": 6, "l1": 4}


def test_a_structures_floor_holds_under_global_competition():
    space = space_of(90, 10, floor=2)
    scores = {"l0": torch.rand(90) + 1, "l1": torch.rand(10)}
    _, counts = Global().allocate(space, Stats(scores=scores), Target(0.9))
    assert counts == {"l0": 8, "l1": 2}


@pytest.mark.parametrize("keep", [-1, 1.0, -0.1, float("nan")])
def test_a_floor_that_is_no_count_and_no_share_is_refused(keep):
    with pytest.raises(RecipeError, match=f"keep is {keep}"):
        WithFloor(Global(), keep)


def test_a_floor_needs_scores_where_its_budget_does():
    assert WithFloor(Global()).needs_scores and not WithFloor(Uniform()).needs_scores


def test_fixed_takes_the_first_pattern_that_fits():
    budget = Fixed({"conv1": 0.0, "conv*": 0.5, "fc": 0.75})
    space = Space(tuple(Group(n, (8,)) for n in ("conv1", "conv2", "fc", "head")))
    _, counts = budget.allocate(space, Stats(), budget.target(space))
    assert counts == {"conv1": 8, "conv2": 4, "fc": 2, "head": 8}


def test_fixed_implies_the_overall_sparsity():
    space = Space((Group("a", (30,)), Group("b", (10,))))
    assert Fixed({"a": 0.5}).target(space).sparsity == 0.375


def test_fixed_is_as_far_along_in_every_group():
    space = Space((Group("a", (100,)), Group("b", (100,))))
    _, counts = Fixed({"a": 0.8, "b": 0.4}).allocate(space, Stats(), Target(0.3))
    assert counts == {"a": 60, "b": 80}


def test_a_pattern_that_fits_no_group_suggests_one():
    with pytest.raises(RecipeError, match=r"(?s)'con.1' fits no group.*did you mean 'conv1'"):
        Fixed({"con.1": 0.5}).allocate(Space((Group("conv1", (8,)),)), Stats(), Target(0.5))


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 50])
def test_a_fixed_sparsity_outside_its_range_names_the_group(sparsity):
    with pytest.raises(RecipeError, match="'fc'"):
        Fixed({"fc": sparsity})
