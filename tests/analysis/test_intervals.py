import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from secateur.analysis import mean_interval

figures = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9)


@given(figures, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_equals_scipys_own_interval(values, confidence):
    n, spread = len(values), statistics.stdev(values)
    if spread < 1e-9:
        return
    slow = stats.t.interval(confidence, n - 1, loc=statistics.fmean(values), scale=spread / math.sqrt(n))
    assert mean_interval(values, confidence) == pytest.approx(slow, rel=1e-6, abs=1e-6)


@given(figures, st.floats(-10, 10), st.floats(0.1, 10))
def test_moves_and_stretches_with_the_values(values, shift, factor):
    low, high = mean_interval(values)
    moved = mean_interval([factor * v + shift for v in values])
    assert moved == pytest.approx((factor * low + shift, factor * high + shift), rel=1e-6, abs=1e-5)


def test_there_is_no_interval_of_fewer_than_two_values():
    assert mean_interval([]) is None and mean_interval([1.0]) is None


def test_equal_values_leave_no_doubt():
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0)
