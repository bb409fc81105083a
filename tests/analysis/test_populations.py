"""Populations: distributions, the rank test against all orders, thirds."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.analysis import empirical_distribution, nearest_third, rank_test

errors = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(errors, st.floats(0, 1))
def test_the_distribution_is_the_share_of_errors_at_most_that_large(found, e):
    xs, shares = empirical_distribution(found)
    below = [s for x, s in zip(xs, shares, strict=True) if x <= e]
    assert (below[-1] if below else 0) == pytest.approx(sum(f <= e for f in found) / len(found))


def test_the_rank_test_equals_counting_all_orders():
    lower, others = [0.1, 0.2, 0.45], [0.3, 0.5, 0.6, 0.7]
    everyone = lower + others

    def rank_sum(part):
        return sum(sorted(everyone).index(e) for e in part)

    orders = list(combinations(everyone, 3))
    p = sum(rank_sum(part) <= rank_sum(lower) for part in orders) / len(orders)
    assert rank_test(lower, others) == pytest.approx(p)


def test_groups_that_do_not_differ_are_not_told_apart():
    assert rank_test([1, 3, 5], [2, 3, 4]) > 0.3 and rank_test([5, 6, 7], [1, 2, 3]) > 0.9


@given(st.lists(st.floats(1, 10), min_size=3, max_size=30), st.floats(1, 10))
def test_a_third_is_near_and_nobody_else_is_nearer(ratios, best):
    near = nearest_third(ratios, best)
    assert sum(near) == max(1, round(len(ratios) / 3))
    far = [abs(r / best - 1) for r, n in zip(ratios, near, strict=True) if not n]
    assert max(abs(r / best - 1) for r, n in zip(ratios, near, strict=True) if n) <= min(far) + 1e-12
