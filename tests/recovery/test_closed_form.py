"""Closed forms of data-free compression: optimality, sampling, grids."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.recovery.closed_form import combination, mean_after_relu, quantized

seeds, sizes = st.integers(0, 2**16), st.integers(1, 5)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error(s, v, V, b, B, lam1, lam2):
    """E(s) of one damaged channel, written out."""
    return (v - s @ V).square().sum() + lam1 * (b - s @ B).square().sum() + lam2 * s.square().sum()


@given(sizes, sizes, st.integers(1, 6), st.floats(0, 2), st.floats(0.001, 2), seeds)
def test_the_gradient_of_the_error_vanishes_at_the_closed_form(kept, damaged, features, lam1, lam2, seed):
    V, B = drawn(kept, features, seed=seed), drawn(kept, 1, seed=seed + 1)
    v, b = drawn(damaged, features, seed=seed + 2), drawn(damaged, 1, seed=seed + 3)
    found = combination(v, V, b, B, lam1, lam2)
    for j in range(damaged):
        s = found[:, j].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(error(s, v[j], V, b[j], B, lam1, lam2), s)
        assert gradient.abs().max() < 1e-11


@given(sizes, seeds)
def test_a_copy_is_found_and_nothing_else_is_taken(kept, seed):
    V, B = drawn(kept, 8, seed=seed), drawn(kept, 1, seed=seed + 1)
    s = combination(2.0 * V[:1], V, 2.0 * B[:1], B, 0.01, 0.0)
    torch.testing.assert_close(s[:, 0], torch.eye(kept, dtype=torch.float64)[0] * 2, rtol=1e-9, atol=1e-9)


@given(sizes, seeds)
def test_without_negative_parts_it_is_no_worse_than_any_other_positive_combination(kept, seed):
    V, B, v, b = drawn(kept, 4, seed=seed), drawn(kept, 1), drawn(1, 4, seed=seed + 1), drawn(1, 1, seed=seed + 2)
    s = combination(v, V, b, B, 0.1, 0.05, nonnegative=True)[:, 0]
    best = error(s, v[0], V, b[0], B, 0.1, 0.05)
    assert (s >= 0).all()
    for step in torch.eye(kept, dtype=torch.float64):
        for size in (1e-4, 1e-2, -1e-4, -1e-2):
            assert error((s + size * step).clamp_min(0), v[0], V, b[0], B, 0.1, 0.05) >= best - 1e-12


def test_a_relative_ridge_scales_with_the_filters():
    V, v, zero = drawn(3, 5), drawn(1, 5, seed=1), torch.zeros(3, 1, dtype=torch.float64)
    small = combination(v, V, zero[:1], zero, 0.0, "relative")
    large = combination(100 * v, 100 * V, zero[:1], zero, 0.0, "relative")
    torch.testing.assert_close(small, large)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.5, 0.7), (-0.8, -1.2), (0.3, 2.0)])
def test_the_mean_after_relu_is_that_of_samples(mean, deviation):
    z = mean + deviation * drawn(4_000_000)
    found = mean_after_relu(torch.tensor([mean]).double(), torch.tensor([deviation]).double())
    assert found.item() == pytest.approx(z.clamp_min(0).mean().item(), abs=2e-3)


def test_without_spread_the_mean_after_relu_is_the_relu_of_the_mean():
    means = torch.tensor([-1.0, 0.0, 2.0]).double()
    assert mean_after_relu(means, torch.zeros(3).double()).tolist() == [0.0, 0.0, 2.0]


@given(st.integers(2, 8), seeds)
def test_quantised_values_lie_on_the_grid_of_their_output_and_are_the_nearest(bits, seed):
    weight = drawn(3, 7, seed=seed)
    found = quantized(weight, bits)
    levels = 2 ** (bits - 1) - 1
    for row, given_row in zip(found, weight, strict=True):
        grid = torch.arange(-levels, levels + 1) * given_row.abs().max() / levels
        nearest = grid[(given_row[:, None] - grid).abs().argmin(1)]
        torch.testing.assert_close(row, nearest)


@given(st.integers(2, 8), seeds)
def test_quantising_twice_changes_nothing(bits, seed):
    once = quantized(drawn(3, 5, seed=seed), bits)
    torch.testing.assert_close(quantized(once, bits), once, rtol=1e-12, atol=1e-12)


def test_an_output_of_zeros_stays():
    assert (quantized(torch.zeros(2, 3), 4) == 0).all()
