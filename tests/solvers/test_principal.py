"""Principal axes: eigenvectors of second moments, in float64, and the same energy however they are turned."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import secateur as sc
from secateur.core import Group, InputGram, InputTokens, Stats
from secateur.solvers import PrincipalAxes
from secateur.solvers.principal import principal_axes, random_rotation

sizes, seeds = st.integers(2, 10), st.integers(0, 2**16)


def moment(n, seed, tokens=50):
    x = torch.randn(tokens, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.T @ x / tokens


def stats_of(group, C, tokens=1000, seed=0):
    told = {(group.name, InputGram()): C, (group.name, InputTokens()): torch.tensor([float(tokens)])}
    return Stats(told, seed=seed)


@given(sizes, seeds, st.floats(0, 0.1))
def test_the_columns_are_orthogonal_directions_of_falling_energy(n, seed, damping):
    C = moment(n, seed)
    Q = principal_axes(C, damping)
    torch.testing.assert_close(Q.T @ Q, torch.eye(n, dtype=torch.float64))
    energy = (Q.T @ C @ Q).diagonal()
    assert bool((energy.diff() <= 1e-9).all())
    torch.testing.assert_close(Q.T @ C @ Q, torch.diag(energy), atol=1e-9, rtol=0)


@given(sizes, seeds)
def test_no_other_directions_keep_more_energy(n, seed):
    C, k = moment(n, seed), max(n // 2, 1)
    Q, other = principal_axes(C, 0.01)[:, :k], random_rotation(n, torch.Generator().manual_seed(seed))[:, :k]
    assert float((Q.T @ C @ Q).trace()) >= float((other.T @ C @ other).trace()) - 1e-9


@given(sizes, seeds)
def test_the_orientation_changes_directions_but_not_what_they_span(n, seed):
    group, C, k = Group("g", (n, 1)), moment(n, seed), max(n - 1, 1)
    pca, spread = (
        PrincipalAxes(orientation=o)(group, stats_of(group, C), k).values["g"][:k].T for o in ("pca", "random")
    )
    torch.testing.assert_close(pca @ pca.T, spread @ spread.T)
    torch.testing.assert_close(spread.T @ spread, torch.eye(k, dtype=torch.float64))


def test_the_mean_is_part_of_the_energy():
    x = torch.randn(100, 4, dtype=torch.float64) * 0.1
    x[:, 2] += 5  # a constant: no variance, much energy
    assert int(principal_axes(x.T @ x, 0.0)[:, 0].abs().argmax()) == 2


def test_float32_moments_are_taken_in_float64():
    assert principal_axes(moment(5, 0).float(), 0.01).dtype == torch.float64


def test_a_stream_without_energy_has_directions():
    assert torch.isfinite(principal_axes(torch.zeros(4, 4), 0.01)).all()


def test_the_same_seed_turns_alike_and_another_otherwise():
    group, C = Group("g", (6, 1)), moment(6, 0)
    first, second, third = (PrincipalAxes()(group, stats_of(group, C, seed=s), 3).values["g"] for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_fewer_tokens_than_directions_are_a_warning(caplog):
    group = Group("g", (6, 1))
    with caplog.at_level(logging.WARNING):
        PrincipalAxes()(group, stats_of(group, moment(6, 0), tokens=5), 3)
    assert "5 tokens for 6 directions" in caplog.text


def test_moments_that_are_not_finite_name_the_place():
    group = Group("layers.0.norm.weight", (2, 1))
    with pytest.raises(sc.NumericsError, match=r"layers\.0\.norm\.weight"):
        PrincipalAxes()(group, stats_of(group, torch.full((2, 2), torch.nan)), 1)


def test_a_negative_damping_is_refused():
    with pytest.raises(sc.RecipeError, match="damping"):
        PrincipalAxes(damping=-1.0)
