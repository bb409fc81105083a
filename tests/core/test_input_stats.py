"""Norms, means and variances of input columns: brute force, merging, and what has no value."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import Forward, Group, InputMoments, InputNorm, RecipeError, RunningMoments

GROUP = Group("0.weight", (4,))
seeds, counts = st.integers(0, 2**16), st.integers(1, 5)


def sequences(seed, n, length=3, width=4):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, length, width, generator=g) * torch.rand(width, generator=g) * 3 + 100


def event(x):
    """Sequences `[n, length, width]` as the forward pass of one batch."""
    return Forward(x.flatten(0, 1), x.flatten(0, 1), samples=len(x))


def seen(statistic, batches):
    state = statistic.zero(GROUP)
    for x in batches:
        state = statistic.update(state, event(x))
    return state


@given(seeds, counts)
def test_the_norm_is_the_mean_over_sequences_of_sums_of_squares(seed, n):
    x = sequences(seed, n)
    slow = sum((x[i].double() ** 2).sum(0) for i in range(n)) / n
    # a batch is summed in float32
    torch.testing.assert_close(InputNorm().value(seen(InputNorm(), x.split(2))), slow, rtol=1e-6, atol=1e-7)


def test_more_sequences_alike_leave_the_norm_as_it_is():
    x = sequences(0, 2)
    twice = InputNorm().value(seen(InputNorm(), [x, x]))
    torch.testing.assert_close(twice, InputNorm().value(seen(InputNorm(), [x])))


@given(seeds, st.integers(2, 9), st.integers(1, 8))
def test_moments_of_any_split_are_those_of_the_whole(seed, n, cut):
    x = sequences(seed, n)
    whole = x.flatten(0, 1).double()
    parts = [seen(InputMoments(), half.split(1)) for half in (x[:cut], x[cut:])]
    mean, variance = InputMoments().value(InputMoments().merge(*parts))
    torch.testing.assert_close(mean, whole.mean(0))
    torch.testing.assert_close(variance, whole.var(0, unbiased=False), rtol=1e-9, atol=1e-12)


def test_a_large_mean_does_not_drown_the_variance():
    x = torch.tensor([[[1e6 + 1.0], [1e6 - 1.0]], [[1e6 + 1.0], [1e6 - 1.0]]], dtype=torch.float64)
    torch.testing.assert_close(InputMoments().value(seen(InputMoments(), x.split(1)))[1], torch.ones(1).double())


@pytest.mark.parametrize("statistic", [InputNorm(), InputMoments()])
def test_merging_takes_workers_in_any_order_and_an_idle_one_changes_nothing(statistic):
    a, b = seen(statistic, [sequences(0, 2)]), seen(statistic, [sequences(1, 3)])
    one, other = statistic.value(statistic.merge(a, b)), statistic.value(statistic.merge(b, a))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(statistic.value(statistic.merge(a, statistic.zero(GROUP))), statistic.value(a))


@given(seeds, st.integers(2, 5))
def test_running_moments_are_the_released_updates_written_as_loops(seed, n):
    x = sequences(seed, n).double()
    m, v = torch.zeros(4).double(), torch.zeros(4).double()
    for k in range(n):
        m = m * k / (k + 1) + x[k].mean(0) / (k + 1)
        v = v * (k - 1) / k + sum((t - m) ** 2 for t in x[k]) / (k + 1) if k else v
    found = RunningMoments().value(seen(RunningMoments(), x.split(2)))
    torch.testing.assert_close(found, torch.stack((m, v)), rtol=1e-9, atol=1e-9)


def test_means_of_both_agree_where_sequences_are_equally_long():
    x = sequences(3, 4)
    means = [s.value(seen(s, x.split(3)))[0] for s in (InputMoments(), RunningMoments())]
    torch.testing.assert_close(*means)


@pytest.mark.parametrize("statistic", [InputMoments(), RunningMoments()])
def test_one_sequence_has_a_mean_and_no_variance(statistic):
    mean, variance = statistic.value(seen(statistic, [sequences(0, 1)]))
    assert mean.isfinite().all() and variance.isnan().all()


def test_what_depends_on_the_order_does_not_merge():
    a = seen(RunningMoments(), [sequences(0, 2)])
    assert RunningMoments().merge(a, RunningMoments().zero(GROUP)) is a
    with pytest.raises(RecipeError, match="InputMoments"):
        RunningMoments().merge(a, a)
