"""Sensitivity: the largest share for a drop, an exact total, and who pays."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import Sensitivity
from secateur.budgets.sensitivity import largest_ratio, rising
from secateur.core import BudgetError, Group, RecipeError, Space, Stats, Target, kept_count

RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
curves = st.lists(st.integers(-3, 20), min_size=9, max_size=9).map(lambda d: [x / 10 for x in d])
shapes = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), min_size=1, max_size=6)


@given(curves, st.floats(-1, 3))
def test_the_ratio_is_the_largest_scanned_one_below_the_limit_or_a_little_more(drops, delta):
    found = largest_ratio(RATIOS, drops, delta)
    fits = [r for r, d in zip(RATIOS, drops, strict=True) if d <= delta]
    if fits:
        assert max(fits) - 1e-9 <= found < max(fits) + 0.1 + 1e-9
    else:
        assert 0 <= found < 0.1 + 1e-9


@given(curves, st.floats(-1, 3), st.floats(0, 1))
def test_a_larger_limit_never_takes_less(drops, delta, more):
    assert largest_ratio(RATIOS, drops, delta) <= largest_ratio(RATIOS, drops, delta + more) + 1e-9


@given(curves)
def test_drops_made_rising_are_the_least_of_what_follows(drops):
    assert rising(drops) == [min(drops[i:]) for i in range(9)]


def drawn(shapes, seed=0):
    g = torch.Generator().manual_seed(seed)
    space = Space(tuple(Group(f"g{i}", (n,), section=key) for i, (key, n) in enumerate(shapes)))
    return space, {group.name: torch.rand(group.size, generator=g) for group in space}


def worth(space, scores, price):
    """A trial in which each unit is worth its score, times the price of its section."""

    def trial(keep):
        return float(sum((scores[g.name] * keep[g.name]).sum() * price[g.section] for g in space))

    return trial


PRICES = {"a": 1.0, "b": 5.0, "c": 0.1}


@given(shapes, st.floats(0, 0.95), st.integers(0, 99))
def test_the_total_is_exact_and_every_group_keeps_its_floor(shapes, sparsity, seed):
    space, scores = drawn(shapes, seed)
    evidence = Stats(scores=scores, trial=worth(space, scores, PRICES))
    try:
        refined, counts = Sensitivity().allocate(space, evidence, Target(sparsity))
    except BudgetError:
        most = sum(g.size - max(-(-g.size // 10), 1) for g in space)
        assert kept_count(sparsity, space.size) < space.size - most + 1 + len(space)
        return
    assert sum(counts.values()) == kept_count(sparsity, space.size)
    assert all(counts[g.name] >= 0.1 * g.size - 1e-9 for g in refined)


def test_what_is_dear_stays_and_what_is_cheap_goes():
    space, scores = drawn([("a", 20), ("b", 20)])
    scores = {name: torch.linspace(0.5, 1, 20) for name in scores}
    trial = worth(space, scores, {"a": 0.1, "b": 5.0})
    _, counts = Sensitivity().allocate(space, Stats(scores=scores, trial=trial), Target(0.4))
    assert counts["g0"] < 6 and counts["g1"] > 18


def test_units_of_one_section_compete_by_score():
    space, scores = drawn([("a", 10), ("a", 10)])
    scores = {"g0": torch.arange(10.0), "g1": torch.arange(10.0) + 100}
    trial = worth(space, scores, PRICES)
    _, counts = Sensitivity().allocate(space, Stats(scores=scores, trial=trial), Target(0.4))
    assert counts == {"g0": 2, "g1": 10}


def test_one_section_after_another_is_tried_while_the_rest_is_whole():
    space, scores = drawn([("a", 10), ("b", 10)])
    seen = []

    def trial(keep):
        seen.append(tuple(keep.counts.values()))
        return 0.0

    Sensitivity().allocate(space, Stats(scores=scores, trial=trial), Target(0.5))
    assert seen == [(10, 10), *((10 - n, 10) for n in range(1, 10)), *((10, 10 - n) for n in range(1, 10))]


def test_a_limit_that_the_target_breaks_says_what_can_go():
    space, scores = drawn([("a", 20)])
    scores = {"g0": torch.ones(20)}
    evidence = Stats(scores=scores, trial=worth(space, scores, PRICES))
    _, counts = Sensitivity(delta=4.0).allocate(space, evidence, Target(0.2))
    assert counts == {"g0": 16}
    with pytest.raises(BudgetError, match=r"a sparsity of 0\.2 at most"):
        Sensitivity(delta=4.0).allocate(space, evidence, Target(0.5))


def test_a_floor_is_of_what_there_was_at_first():
    space, scores = drawn([("a", 10), ("b", 10)])
    trial = worth(space, scores, {"a": 0.0, "b": 1.0})
    evidence = Stats(scores=scores, trial=trial, sizes={"g0": 50, "g1": 10})
    _, counts = Sensitivity().allocate(space, evidence, Target(0.25))
    assert counts["g0"] >= 5


def test_nothing_goes_without_a_scan_where_nothing_is_asked():
    space, scores = drawn([("a", 4)])
    assert Sensitivity().allocate(space, Stats(scores=scores), Target(0))[1] == {"g0": 4}


def test_without_a_task_there_is_nothing_to_measure_by():
    space, scores = drawn([("a", 4)])
    with pytest.raises(RecipeError, match="there is no task"):
        Sensitivity().allocate(space, Stats(scores=scores), Target(0.5))


@pytest.mark.parametrize("wrong", [{"ratios": (0.5, 0.2)}, {"ratios": ()}, {"ratios": (0.5, 1.0)}, {"floor": 1.0}])
def test_a_setting_outside_its_range_is_refused(wrong):
    with pytest.raises(RecipeError, match="ascending shares"):
        Sensitivity(**wrong)
