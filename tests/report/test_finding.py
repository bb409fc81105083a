"""Means, intervals, and the sentences that follow from them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.report.finding import ALONE, CLEAR, OPEN, UNCLEAR, caveats, headline, winners
from secateur.report.groups import Mean, Series, groups_of, mean_of, names_of
from secateur.report.runs import run_of_row


def runs(method, sparsity, values, ratio=1.0, params=100, **row):
    told = {"method": method, "sparsity": sparsity, "recovery": "finetune", "latency_ratio": ratio, "params": params}
    return [
        run_of_row({**told, "seed": i, "metrics": {"accuracy": v}, **row}, 0, f"{method}{i}")
        for i, v in enumerate(values)
    ]


def judged(*several, lower=False):
    groups = groups_of([r for rs in several for r in rs])
    return winners(groups, [g.series.label for g in groups], "accuracy", lower)


def test_the_best_mean_wins_where_no_interval_reaches_it():
    (found,) = judged(runs("a", 0.9, [0.9, 0.91, 0.9]), runs("b", 0.9, [0.5, 0.51, 0.5]))
    assert (found.name, found.kind, found.rivals) == ("a", CLEAR, ())
    assert headline([found], "accuracy") == "a has the best accuracy at 90 %: no other method's interval reaches it."


def test_overlapping_intervals_are_no_clear_winner():
    (found,) = judged(runs("a", 0.9, [0.9, 0.8, 0.85]), runs("b", 0.9, [0.84, 0.86, 0.8]))
    assert (found.kind, found.rivals) == (UNCLEAR, ("b",))
    assert "no clear winner by accuracy: at 90 %" in headline([found], "accuracy")


def test_one_seed_decides_nothing():
    (found,) = judged(runs("a", 0.9, [0.9]), runs("b", 0.9, [0.1]))
    assert found.kind == OPEN and "may be chance" in headline([found], "accuracy")


def test_one_method_has_nothing_to_win_against():
    (found,) = judged(runs("a", 0.9, [0.9, 0.8]))
    assert found.kind == ALONE and "nothing to compare" in headline([found], "accuracy")


def test_less_is_better_turns_the_order():
    (found,) = judged(runs("a", 0.9, [0.9, 0.91]), runs("b", 0.9, [0.1, 0.11]), lower=True)
    assert found.name == "b"


def test_dense_is_a_reference_and_no_competitor():
    found = judged(runs("dense", 0.0, [0.99, 0.991, 0.99]), runs("a", 0.9, [0.5, 0.51, 0.5]))
    assert [w.name for w in found] == ["a"] and found[0].beside == ("worse than dense",)


def test_a_small_dense_model_counts_at_its_own_size_only():
    small = runs("small-dense", 0.9, [0.9, 0.91, 0.9])
    at_90, at_95 = judged(small, runs("a", 0.9, [0.5, 0.51, 0.5]), runs("a", 0.95, [0.4, 0.41, 0.4]))
    assert at_90.beside == ("worse than a small dense model of equal size",) and at_95.beside == ()
    said = headline([at_90, at_95], "accuracy")
    assert "nothing to compare" in said and "At 90 % the best pruned model is worse than a small dense" in said


def test_a_method_does_not_compete_with_itself_under_another_recovery():
    other = runs("a", 0.9, [0.9, 0.91, 0.91], recovery="distill")
    groups = groups_of([*runs("a", 0.9, [0.9, 0.91, 0.9]), *other, *runs("b", 0.9, [0.5, 0.51, 0.5])])
    names = [f"{g.series.label} + {g.recovery}" for g in groups]
    (found,) = winners(groups, names, "accuracy", False)
    assert (found.kind, found.method, found.alike) == (CLEAR, "a", ("a + finetune",))


def test_a_failed_run_counts_nowhere():
    (found,) = judged(runs("a", 0.9, [0.9, 0.91]), runs("b", 0.9, [0.99], error="out of memory"))
    assert (found.name, found.kind) == ("a", ALONE)


def test_nothing_finished_is_said():
    assert "nothing to conclude" in headline([], "accuracy")


def test_a_masked_model_is_not_called_faster():
    groups = groups_of([*runs("dense", 0.0, [1.0]), *runs("a", 0.9, [1.0, 1.0], ratio=0.98)])
    assert "no model here runs faster" in caveats(groups, "equal")[0]


def test_a_smaller_model_may_be():
    groups = groups_of([*runs("dense", 0.0, [1.0]), *runs("a", 0.9, [1.0, 1.0], ratio=0.5, params=50)])
    assert "median latency ratio 0.50" in caveats(groups, "own")[0] and "no model" not in caveats(groups, "own")[0]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=8))
def test_a_mean_lies_inside_its_interval_and_forgets_what_is_unknown(values):
    mean, known = mean_of(values), [v for v in values if v is not None]
    if not known:
        assert mean is None
    else:
        assert mean.mean == pytest.approx(sum(known) / len(known), abs=1e-6)
        assert (mean.low is None) == (len(known) < 2)
        assert mean.low is None or mean.low <= mean.mean <= mean.high


bounds = st.tuples(st.floats(-9, 9), st.floats(0, 5)).map(lambda t: Mean(t[0], t[0] - t[1], t[0] + t[1]))


@given(bounds, bounds)
def test_overlap_is_symmetric_and_means_a_common_point(a, b):
    assert a.overlaps(b) == b.overlaps(a) == (max(a.low, b.low) <= min(a.high, b.high))


def test_lines_of_one_label_are_told_apart_by_source_then_structure():
    lines = [
        Series(0, "a", "a", "2:4"),
        Series(0, "a", "a", "weights"),
        Series(1, "a", "a", "weights"),
        Series(0, "b", "b", ""),
    ]
    assert names_of(lines, ["x", "y"]) == ["a · x · 2:4", "a · x · weights", "a · y", "b"]
    assert names_of(lines[:2], ["x"]) == ["a · 2:4", "a · weights"]
