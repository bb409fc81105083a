"""Erdos-Renyi densities, against an independent slow version."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import ER, ERK, Uniform
from secateur.budgets.random_graph import er_weight, erk_weight, scaled_densities
from secateur.core import BudgetError, Group, Site, Space, Stats, SubjectError, Target

shapes = st.lists(
    st.tuples(*[st.integers(1, 64)] * 2) | st.tuples(*[st.integers(1, 32)] * 2, *[st.integers(1, 5)] * 2),
    min_size=1,
    max_size=8,
)
densities = st.floats(0.001, 1)


def slow(raw, sizes, density):
    """The largest eps, by bisection, whose densities min(1, eps * raw) fit: the dense set falls out."""
    total, low, high = density * sum(sizes), 0.0, 1 / min(raw)
    for _ in range(200):
        eps = (low + high) / 2
        used = sum(n * min(1.0, eps * r) for r, n in zip(raw, sizes, strict=True))
        low, high = (eps, high) if used <= total else (low, eps)
    return [min(1.0, low * r) for r in raw]


@pytest.mark.parametrize("weight", [er_weight, erk_weight, lambda s: erk_weight(s, 0.5)], ids=["er", "erk", "power"])
@given(shapes, densities)
def test_densities_equal_those_found_by_bisection(weight, shapes, density):
    raw, sizes = [weight(s) for s in shapes], [math.prod(s) for s in shapes]
    names = [str(i) for i in range(len(shapes))]
    fast = scaled_densities(dict(zip(names, raw, strict=True)), dict(zip(names, sizes, strict=True)), density)
    assert [fast[n] for n in names] == pytest.approx(slow(raw, sizes, density), rel=1e-6, abs=1e-9)


@given(shapes, densities)
def test_no_density_is_above_one_and_their_mean_is_the_target(shapes, density):
    sizes = {str(i): math.prod(s) for i, s in enumerate(shapes)}
    found = scaled_densities({str(i): erk_weight(s) for i, s in enumerate(shapes)}, sizes, density)
    assert all(0 <= d <= 1 for d in found.values())
    assert sum(found[n] * sizes[n] for n in sizes) == pytest.approx(density * sum(sizes.values()))


def test_a_small_layer_becomes_dense_and_the_rest_pays():
    found = scaled_densities({"small": 1.0, "large": 0.1}, {"small": 10, "large": 990}, 0.2)
    assert found["small"] == 1.0 and found["large"] == pytest.approx(190 / 990)


def test_a_layer_may_become_dense_because_another_did():
    found = scaled_densities({"a": 100.0, "b": 3.0, "c": 1.0}, {"a": 10, "b": 10, "c": 80}, 0.45)
    assert found == pytest.approx({"a": 1.0, "b": 30 * 35 / 1100, "c": 35 / 110})
    found = scaled_densities({"a": 100.0, "b": 3.0, "c": 1.0}, {"a": 10, "b": 10, "c": 80}, 0.6)
    assert found == pytest.approx({"a": 1.0, "b": 1.0, "c": 0.5})


def test_er_is_equation_3_and_ignores_the_kernel():
    assert er_weight((64, 32, 3, 3)) == er_weight((64, 32)) == (64 + 32) / (64 * 32)


def test_erk_sums_all_dimensions():
    assert erk_weight((64, 32, 3, 3)) == (64 + 32 + 3 + 3) / (64 * 32 * 9)


def test_er_and_erk_agree_on_matrices():
    assert er_weight((7, 5)) == erk_weight((7, 5))


def space_of(*shapes):
    sites = [Site(f"l{i}", torch.empty(s)) for i, s in enumerate(shapes)]
    return Space(tuple(Group(s.name, s.shape, site=s) for s in sites))


def test_counts_are_densities_of_the_tensors_own_shape():
    space = space_of((32, 16, 3, 3), (64, 32, 3, 3), (10, 64))
    _, counts = ERK().allocate(space, Stats(), Target(0.7))
    raw = [erk_weight(tuple(g.site.tensor.shape)) for g in space]
    wanted = slow(raw, [g.size for g in space], 0.3)
    assert all(abs(counts[g.name] - d * g.size) <= 1 for g, d in zip(space, wanted, strict=True))


def test_a_power_of_zero_is_uniform():
    space = space_of((32, 16), (64, 32), (10, 64))
    assert ERK(0).allocate(space, Stats(), Target(0.75))[1] == Uniform().allocate(space, Stats(), Target(0.75))[1]


def test_erk_and_er_differ_on_convolutions():
    space = space_of((16, 16, 1, 1), (16, 16, 5, 5))
    assert ER().allocate(space, Stats(), Target(0.5))[1] != ERK().allocate(space, Stats(), Target(0.5))[1]


def test_a_negative_power_is_refused():
    with pytest.raises(BudgetError, match="power is -1"):
        ERK(-1)


def test_samples_are_no_graph():
    with pytest.raises(SubjectError, match="group 'samples'"):
        ERK().allocate(Space((Group("samples", (9,)),)), Stats(), Target(0.5))
