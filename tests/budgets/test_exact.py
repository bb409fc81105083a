"""What every budget owes: counts that add up exactly, within floors and sizes."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from secateur.budgets import ER, ERK, Global, Lamp, Uniform, UniformPlus, WithFloor
from secateur.budgets.apportion import apportion, to_stay
from secateur.core import BudgetError, Group, Site, Space, Stats, Target, check_counts, count, kept_count
from secateur.structures import NM

dims = st.integers(1, 9)
shapes = st.lists(st.tuples(dims, dims) | st.tuples(dims, dims, dims), min_size=1, max_size=6)
sparsities = st.decimals(0, "0.999", places=3).map(float)


def space_of(shapes, **more):
    sites = [Site(f"l{i}", torch.empty(s)) for i, s in enumerate(shapes)]
    return Space(tuple(Group(s.name, s.shape, site=s, **more) for s in sites))


def evidence(space, seed=0, digits=1):
    """Magnitudes with many ties."""
    g = torch.Generator().manual_seed(seed)
    return Stats(scores={x.name: torch.randn(x.shape, generator=g).abs().round(decimals=digits) for x in space})


TOTALS = {
    "er": ER(),
    "erk": ERK(),
    "erk of half power": ERK(0.5),
    "global": Global(),
    "lamp": Lamp(),
    "global with a floor": WithFloor(Global(), 1),
    "uniform with a floor": WithFloor(Uniform(), 1),
    "uniform": Uniform(),
}


@pytest.mark.parametrize("budget", [b for n, b in TOTALS.items() if n != "uniform"], ids=list(TOTALS)[:-1])
@given(shapes, sparsities, st.integers(0, 99))
def test_the_counts_add_up_to_the_target_exactly(budget, shapes, sparsity, seed):
    space = space_of(shapes)
    stays = kept_count(sparsity, space.size)
    if isinstance(budget, WithFloor):
        stays = sum(budget.budget.allocate(space, evidence(space, seed), Target(sparsity))[1].values())
        assume(stays >= len(space))
    refined, counts = budget.allocate(space, evidence(space, seed), Target(sparsity))
    check_counts(refined, counts, "test")
    assert sum(counts.values()) == stays


@pytest.mark.parametrize("budget", TOTALS.values(), ids=TOTALS)
@given(shapes)
def test_a_sparsity_of_zero_keeps_all(budget, shapes):
    space = space_of(shapes)
    _, counts = budget.allocate(space, evidence(space), Target(0.0))
    assert counts == {g.name: g.size for g in space}


@pytest.mark.parametrize(
    "budget", [Uniform(), ER(), ERK(), Global(), Lamp(), WithFloor(Global()), WithFloor(ERK(), 3)], ids=str
)
def test_n_of_m_fixes_the_counts_whatever_the_budget(budget):
    space = NM(2, 4).find(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8)))
    refined, counts = budget.allocate(space, evidence(space), Target(0.5))
    check_counts(refined, counts, "test")
    assert set(counts.values()) == {2}


@pytest.mark.parametrize("budget", [Global(), Lamp(), WithFloor(Uniform("row"))], ids=str)
def test_lanes_are_refused_where_units_of_all_groups_compete(budget):
    space = space_of([(4, 6), (3, 5)]).replaced(lanes={"l0": 4, "l1": 3})
    with pytest.raises(BudgetError, match=r"(?s)4 lanes must each keep the same count.*group 'l0'.*Uniform or ERK"):
        budget.allocate(space, evidence(space), Target(0.5))


@pytest.mark.parametrize("budget", [Uniform(), ER(), ERK()], ids=str)
def test_lanes_are_cut_to_one_count_where_groups_do_not_compete(budget):
    space = space_of([(4, 6), (3, 5)]).replaced(lanes={"l0": 4, "l1": 3})
    refined, counts = budget.allocate(space, Stats(), Target(0.5))
    check_counts(refined, counts, "test")
    assert 0 < counts["l0"] < 6 and 0 < counts["l1"] < 5


@pytest.mark.parametrize("budget", [Uniform(), ER(), ERK(), UniformPlus()], ids=str)
def test_budgets_that_look_at_no_scores_say_so(budget):
    space = space_of([(4, 6), (3, 5), (6, 6)])
    assert not budget.needs_scores and budget.allocate(space, Stats(), Target(0.3))


@given(shapes, sparsities)
def test_uniform_rounds_in_every_group(shapes, sparsity):
    space = space_of(shapes)
    _, counts = Uniform().allocate(space, Stats(), Target(sparsity))
    assert counts == {g.name: g.size - count(sparsity, g.size) for g in space}


@given(shapes, sparsities)
def test_uniform_per_row_rounds_in_every_row(shapes, sparsity):
    refined, counts = Uniform("row").allocate(space_of(shapes), Stats(), Target(sparsity))
    for group in refined:
        rows, columns = group.shape
        assert (group.lanes, counts[group.name]) == (rows, columns - count(sparsity, columns))


def test_uniform_per_row_leaves_n_of_m_alone():
    space = NM(2, 4).find(nn.Linear(8, 3))
    refined, counts = Uniform("row").allocate(space, Stats(), Target(0.5))
    assert (refined["weight"].lanes, counts["weight"]) == (6, 2)


@given(st.lists(st.tuples(dims, dims), min_size=3, max_size=6), sparsities)
def test_uniform_plus_keeps_the_first_whole_and_enough_of_the_last(shapes, sparsity):
    space = space_of(shapes)
    try:
        _, counts = UniformPlus().allocate(space, Stats(), Target(sparsity))
    except BudgetError:
        assert to_stay(space, Target(sparsity)) <= space.groups[0].size + 0.2 * space.groups[-1].size + 1
        return
    first, *_, last = space
    assert counts[first.name] == first.size
    assert counts[last.name] >= 0.2 * last.size
    assert sum(counts.values()) == to_stay(space, Target(sparsity))


def test_uniform_plus_cuts_all_in_the_middle_alike():
    space = space_of([(2, 5), (10, 10), (20, 10), (10, 10), (5, 10)])
    _, counts = UniformPlus().allocate(space, Stats(), Target(0.8))
    assert counts == {"l0": 10, "l1": 18, "l2": 36, "l3": 18, "l4": 10}


def test_uniform_plus_cuts_the_last_like_the_middle_while_that_keeps_enough():
    space = space_of([(5, 10), (10, 10), (20, 10)])
    _, counts = UniformPlus().allocate(space, Stats(), Target(0.6))
    assert counts == {"l0": 50, "l1": 30, "l2": 60}


def test_uniform_plus_names_the_sparsity_that_it_can_reach():
    space = space_of([(10, 10), (5, 4), (10, 10)])
    with pytest.raises(BudgetError, match=r"keep 120 units.*\n.*\n.*below 0\.4545"):
        UniformPlus().allocate(space, Stats(), Target(0.6))


def test_uniform_plus_needs_a_middle():
    with pytest.raises(BudgetError, match="2 groups"):
        UniformPlus().allocate(space_of([(2, 2), (2, 2)]), Stats(), Target(0.5))


@given(st.data())
def test_apportioned_counts_are_wanted_ones_rounded_up_or_down(data):
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=6))
    wanted = [data.draw(st.floats(0, n)) for n in sizes]
    space = Space(tuple(Group(str(i), (n,)) for i, n in enumerate(sizes)))
    total = round(sum(wanted))
    counts = apportion({str(i): w for i, w in enumerate(wanted)}, space, total, "test")
    assert sum(counts.values()) == total
    assert all(abs(counts[str(i)] - w) <= 1 + 1e-9 for i, w in enumerate(wanted))


@given(st.data())
def test_apportioned_counts_lie_between_floor_and_size_whatever_was_wanted(data):
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=6))
    floors = [data.draw(st.integers(0, n)) for n in sizes]
    wanted = {str(i): data.draw(st.floats(0, 60)) for i in range(len(sizes))}
    space = Space(tuple(Group(str(i), (n,), floor=f) for i, (n, f) in enumerate(zip(sizes, floors, strict=True))))
    total = data.draw(st.integers(sum(floors), sum(sizes)))
    counts = apportion(wanted, space, total, "test")
    assert sum(counts.values()) == total
    assert all(g.floor <= counts[g.name] <= g.size for g in space)


def test_what_a_floor_takes_comes_from_the_group_that_misses_it_least():
    space = Space((Group("a", (10,), floor=5), Group("b", (10,)), Group("c", (10,))))
    assert apportion({"a": 0.0, "b": 3.9, "c": 3.0}, space, 10, "test") == {"a": 5, "b": 3, "c": 2}


def test_floors_that_keep_too_much_name_the_sparsity_that_they_allow():
    space = Space((Group("a", (10,), floor=5), Group("b", (10,), floor=3)))
    with pytest.raises(BudgetError, match=r"(?s)7 of 20.*floors alone keep 8.*0\.6 at most"):
        apportion({"a": 3.5, "b": 3.5}, space, 7, "test")
