"""Verdicts: the interval against Student's table and SciPy, the three outcomes, and what they may not depend on."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from secateur.claims.verdict import FAILS, HOLDS, UNDECIDED, Expect, higher, judge, lower, t_interval, verdict, within
from secateur.core import NumericsError, RecipeError

figures = st.floats(-1e3, 1e3, allow_nan=False)
samples = st.lists(figures, min_size=2, max_size=12)
expects = st.builds(
    Expect,
    st.sampled_from(["higher", "lower", "within"]),
    st.just("accuracy"),
    st.floats(1e-3, 10),
)


def pairs(method, against):
    return [({"accuracy": a}, {"accuracy": b}) for a, b in zip(method, against, strict=True)]


def test_the_interval_of_five_differences_is_that_of_the_printed_table():
    low, high = t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776 * math.sqrt(2.5) / math.sqrt(5)  # t(4, 0.975) = 2.776
    assert low == pytest.approx(3 - half, abs=1e-3) and high == pytest.approx(3 + half, abs=1e-3)


@given(samples)
def test_the_interval_is_that_of_a_paired_t_test(differences):
    low, high = t_interval(differences)
    mean, error = stats.tmean(differences), stats.sem(differences)
    if error > 1e-6 * (1 + abs(mean)):
        expected = stats.t.interval(0.95, len(differences) - 1, mean, error)
        assert (low, high) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    else:
        assert low == pytest.approx(mean, rel=1e-4, abs=1e-4)


@given(expects, figures, st.floats(0, 1e3))
def test_exactly_one_verdict_follows_from_an_interval(expect, low, width):
    high = low + width
    found = verdict(expect, low, high)
    better = [x for x in (low, high) if (abs(x) < expect.by if expect.kind == "within" else x > expect.by)]
    if found == HOLDS:
        assert len(better) == 2
    elif found == FAILS:
        assert not better
    else:
        assert found == UNDECIDED


@given(expects, samples, st.randoms())
def test_the_order_of_seeds_changes_nothing(expect, differences, random):
    shuffled = list(differences)
    random.shuffle(shuffled)
    zeros = [0.0] * len(differences)
    a, b = judge(expect, pairs(differences, zeros)), judge(expect, pairs(shuffled, zeros))
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


@given(samples, st.floats(-5, 5))
def test_lower_is_higher_with_the_sides_exchanged(differences, by):
    zeros = [0.0] * len(differences)
    assert judge(lower("accuracy", by), pairs(differences, zeros)) == judge(
        higher("accuracy", by), pairs(zeros, differences)
    )


@given(samples, st.floats(0.1, 10))
def test_a_stronger_claim_never_holds_where_a_weaker_one_does_not(differences, by):
    zeros = [0.0] * len(differences)
    strong = judge(higher("accuracy", by), pairs(differences, zeros)).verdict
    weak = judge(higher("accuracy", 0.0), pairs(differences, zeros)).verdict
    assert not (strong == HOLDS and weak != HOLDS) and not (weak == FAILS and strong != FAILS)


def test_a_relative_difference_is_a_share_of_the_other_side():
    assert lower("accuracy", 0.05, relative=True).difference(90.0, 100.0) == pytest.approx(0.1)
    assert higher("accuracy", relative=True).difference(-90.0, -100.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("differences", "found"),
    [
        ([0.02, 0.021, 0.022], HOLDS),
        ([0.001, 0.002, 0.003], FAILS),
        ([0.0, 0.02, 0.01], UNDECIDED),
        ([0.0, 0.0], FAILS),  # equal is not higher
        ([0.01], FAILS),  # an exact claim of "more than"
        ([0.02], HOLDS),
    ],
)
def test_the_whole_interval_must_lie_on_one_side(differences, found):
    assert judge(higher("accuracy", by=0.01), pairs(differences, [0.0] * len(differences))).verdict == found


@pytest.mark.parametrize(
    ("differences", "found"), [([0.0, 0.0], HOLDS), ([0.5, 0.51], FAILS), ([-0.5, -0.51], FAILS), ([-1, 1], UNDECIDED)]
)
def test_within_asks_for_the_whole_interval_in_a_band(differences, found):
    assert judge(within("accuracy", by=0.1), pairs(differences, [0.0] * len(differences))).verdict == found


def test_figures_that_are_not_numbers_are_refused():
    with pytest.raises(NumericsError, match="accuracy is nan"):
        judge(higher("accuracy"), pairs([math.nan, 1.0], [0.0, 0.0]))
    with pytest.raises(NumericsError, match="to 0"):
        judge(higher("accuracy", relative=True), pairs([1.0, 1.0], [0.0, 0.0]))


def test_a_missing_metric_names_those_that_are_there():
    with pytest.raises(RecipeError, match=r"lack 'f1'(.|\n)*accuracy"):
        judge(higher("f1"), pairs([1.0, 1.0], [0.0, 0.0]))


def test_no_figures_and_no_band_are_refused():
    with pytest.raises(RecipeError, match="no figures"):
        judge(higher("accuracy"), [])
    with pytest.raises(RecipeError, match="by is 0"):
        within("accuracy", by=0.0)
