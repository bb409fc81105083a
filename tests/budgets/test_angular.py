"""Shares by angular distance: the formula, what does not depend on the tokens, and what cannot be met."""

import logging
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import AngularShares
from secateur.budgets.angular import kept_shares
from secateur.core import AngularDistance, BudgetError, Group, RecipeError, Space, Stats, Target

distances = st.lists(st.floats(0, 1), min_size=2, max_size=6)
sparsities = st.floats(0.01, 0.95)


def case(found, tokens=131_072, size=100, floor=0):
    space = Space(tuple(Group(f"l{i}", (size,), floor=floor) for i in range(len(found))))
    values = {
        (f"l{i}", AngularDistance()): torch.tensor([d, tokens], dtype=torch.float64)
        for i, d in enumerate(found)
        if d is not None
    }
    return space, Stats(values)


def counts(found, sparsity, tokens=131_072, size=100, floor=0, **settings):
    space, stats = case(found, tokens, size, floor)
    return list(AngularShares(**settings).allocate(space, stats, Target(sparsity))[1].values())


@given(distances, sparsities, st.floats(0, 40))
def test_shares_have_the_mean_that_was_asked_and_stay_below_one(found, sparsity, a):
    shares = kept_shares(torch.tensor(found, dtype=torch.float64), sparsity, a)
    assert float(shares.mean()) == pytest.approx(1 - sparsity) and float(shares.max()) < 1
    assert float(shares.min()) >= 0


@given(distances, sparsities)
def test_shares_keep_the_order_of_the_distances(found, sparsity):
    shares = kept_shares(torch.tensor(found, dtype=torch.float64), sparsity, 13.0)
    order = torch.tensor(found).argsort()
    assert bool((shares[order].diff() >= -1e-12).all())


def test_the_shares_are_the_formula():
    found, s = [0.2, 0.22, 0.27], 0.4
    c = [1 / (1 + math.exp(-13.1072 * (d - 0.23))) for d in found]
    expected = [x / (sum(c) / 3) * (1 - s) for x in c]
    assert max(expected) < 1
    got = counts(found, s, size=10_000)
    assert got == [pytest.approx(e * 10_000, abs=1) for e in expected]


def test_a_layer_that_would_keep_more_than_all_draws_all_to_the_mean():
    c = torch.sigmoid(torch.tensor([5.0, 0, 0, 0]).double() - 1.25)
    mean, largest = c.mean(), c.max()
    assert largest / mean * 0.9 >= 1
    k = mean * (1 / 0.9 - 1) / (largest - mean) / 1.05
    expected = (mean + k * (c - mean)) / mean * 0.9
    torch.testing.assert_close(kept_shares(torch.tensor([5.0, 0, 0, 0]).double(), 0.1), expected)


def test_the_number_of_tokens_does_not_matter_but_in_the_released_code():
    found = [0.05, 0.2, 0.35]
    assert counts(found, 0.5, tokens=1000) == counts(found, 0.5, tokens=10**6)
    released = [counts(found, 0.5, tokens=n, compat="release") for n in (1000, 131_072, 10**6)]
    assert released[1] == counts(found, 0.5) and released[0] != released[1] != released[2]


def test_a_of_zero_and_equal_distances_are_uniform():
    assert counts([0.1, 0.3], 0.3, a=0.0) == counts([0.2, 0.2], 0.3) == [70, 70]


@given(distances, sparsities)
def test_the_sum_is_exact(found, sparsity):
    from secateur.core import kept_count

    assert sum(counts(found, sparsity)) == kept_count(sparsity, 100 * len(found))


def test_counts_are_rounded_to_the_nearest_multiple():
    plain, rounded = counts([0.1, 0.3], 0.5), counts([0.1, 0.3], 0.5, round_to=8)
    assert rounded == [round(n / 8) * 8 for n in plain] and not any(n % 8 for n in rounded)
    assert counts([0.1, 0.3], 0.95, size=16, round_to=8) == [8, 8]


def test_multiples_of_more_than_half_of_a_group_are_refused():
    with pytest.raises(RecipeError, match="50 at most"):
        counts([0.1, 0.3], 0.5, round_to=51)
    with pytest.raises(RecipeError, match="128 suits"):
        AngularShares(round_to=0)


def test_floors_hold_and_floors_that_cannot_are_refused():
    assert min(counts([0.0, 1.0], 0.6, floor=30)) >= 30
    with pytest.raises(BudgetError, match="floors"):
        counts([0.0, 1.0], 0.9, floor=30)


def test_a_group_outside_blocks_counts_as_average_and_is_named(caplog):
    with caplog.at_level(logging.WARNING):
        found = counts([0.1, None, 0.3], 0.5, size=10_000)
    assert "l1 lies in no block" in caplog.text and found[0] < found[1] < found[2]
    assert counts([None, None], 0.3) == [70, 70]
