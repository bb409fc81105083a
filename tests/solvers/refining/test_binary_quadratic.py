"""Annealing and trying all against brute force."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.core import RecipeError
from secateur.solvers.refining.binary_quadratic import Annealing, annealed, energy, scaled, solutions, solved, tried

seeds = st.integers(0, 2**16)


def draw(seed, n):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, n, generator=g, dtype=torch.float64), torch.rand(n, generator=g) < 0.5, g


def fits(y, x, lanes):
    return all(sum(y[i] for i in range(len(x)) if lanes[i] == k) == int(x[lanes == k].sum()) for k in lanes.unique())


def brute(Q, x, lanes):
    every = [torch.tensor(y) for y in product([False, True], repeat=len(x)) if fits(y, x, lanes)]
    return min(float(sum(Q[i, j] for i in range(len(x)) for j in range(len(x)) if y[i] and y[j])) for y in every)


@given(seeds, st.integers(1, 7), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_trying_all_finds_the_least_of_brute_force(seed, n, lanes_of):
    Q, x, _ = draw(seed, n)
    lanes = torch.arange(n) // lanes_of
    found = tried(Q, x, lanes)
    assert fits(found.tolist(), x, lanes)
    assert float(energy(Q, found)) == pytest.approx(brute(Q, x, lanes), abs=1e-9)


@given(seeds, st.integers(2, 8), st.sampled_from([2, 4, 8]))
@settings(deadline=None, max_examples=25)
def test_annealing_keeps_every_lanes_count_and_nearly_always_finds_the_least(seed, n, lanes_of):
    Q, x, rng = draw(seed, n)
    lanes = torch.arange(n) // lanes_of
    found = solved(Q, x, rng, lanes, Annealing(exhaustive=0, restarts=5, sweeps=2))
    assert fits(found.tolist(), x, lanes)
    assert float(energy(Q, found)) == pytest.approx(brute(Q, x, lanes), abs=1e-9)


@given(seeds, st.integers(20, 40))
@settings(deadline=None, max_examples=20)
def test_it_is_never_worse_than_the_start(seed, n):
    Q, x, rng = draw(seed, n)
    found = solved(Q, x, rng)
    assert int(found.sum()) == int(x.sum())
    assert float(energy(Q, found)) <= float(energy(Q, x)) + 1e-9


def test_what_annealing_reckons_on_its_way_is_the_energy():
    Q, x, rng = draw(3, 30)
    Q = scaled(Q)
    how = Annealing(hottest=50.0, coolest=100.0)
    found = annealed(Q, x, torch.zeros(30, dtype=torch.long), rng, how)
    swaps = [(i, j) for i in range(30) for j in range(30) if found[i] and not found[j]]
    gains = []
    for i, j in swaps:
        other = found.clone()
        other[i], other[j] = False, True
        gains.append(float(energy(Q, other) - energy(Q, found)))
    assert float(energy(Q, found)) < float(energy(Q, x)) and sum(g < -1e-9 for g in gains) <= 2


@given(seeds, st.floats(1e-9, 1e9))
@settings(deadline=None, max_examples=20)
def test_the_scale_of_the_problem_does_not_matter(seed, factor):
    Q, x, _ = draw(seed, 24)
    one, two = (solved(q, x, torch.Generator().manual_seed(1)) for q in (Q, Q * factor))
    assert torch.equal(one, two)


def test_negative_entries_are_not_taken_for_nothing():
    Q = torch.tensor([[-4.0, 1e-20], [0.0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(scaled(Q), torch.tensor([[-2.0, 0.0], [0.0, 1.0]], dtype=torch.float64))


def test_solutions_are_counted():
    x = torch.tensor([True, False, False, True, True, False])
    assert solutions(x, torch.tensor([0, 0, 0, 1, 1, 1])) == 3 * 3
    assert solutions(x, torch.zeros(6, dtype=torch.long)) == 20


@pytest.mark.parametrize("x", [[False] * 30, [True] * 30])
def test_where_nothing_can_change_nothing_does(x):
    Q, _, rng = draw(0, 30)
    assert solved(Q, torch.tensor(x), rng, how=Annealing(exhaustive=0)).tolist() == x


def test_nothing_at_stake_changes_nothing():
    x = torch.tensor([True, False] * 20)
    assert torch.equal(solved(torch.zeros(40, 40), x, torch.Generator()), x)


@pytest.mark.parametrize("wrong", [{"factor": 1.0}, {"hottest": 0.0}, {"sweeps": 0}, {"hottest": 200.0}])
def test_a_temperature_that_does_not_fall_is_refused(wrong):
    with pytest.raises(RecipeError, match=r"factor=1\.1"):
        Annealing(**wrong)
