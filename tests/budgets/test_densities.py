"""SynExp against random feasible points, widths against their densities, and counts that a space gets."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.budgets import Widths
from secateur.budgets.synexp import synexp, widths
from secateur.core import BudgetError, RecipeError, Stats, Target
from secateur.structures import Channels

costs = st.lists(st.tuples(st.floats(1, 1000), st.floats(1, 1000)), min_size=1, max_size=6)


@given(costs, st.floats(0.02, 1), st.integers(0, 99))
def test_no_random_feasible_densities_have_a_larger_sum_of_logs(layers, density, seed):
    alpha, f = (np.array(side) for side in zip(*layers, strict=True))
    best = np.array(synexp(alpha.tolist(), f.tolist(), density))
    assert (best > 0).all() and (best <= 1).all()
    for cost in (alpha, f):
        assert cost @ best <= density * cost.sum() * (1 + 1e-9)
    rng = np.random.default_rng(seed)
    for _ in range(200):
        p = rng.uniform(0, 1, len(alpha)) ** rng.uniform(0.2, 3)
        p = p * min(1, *(density * c.sum() / (c @ p) for c in (alpha, f)))
        near = best * np.exp(rng.normal(0, 0.05, len(alpha)))
        near = np.minimum(near, 1) * min(1, *(density * c.sum() / (c @ np.minimum(near, 1)) for c in (alpha, f)))
        for other in (p, near):
            assert np.log(np.maximum(other, 1e-300)).sum() <= np.log(best).sum() + 1e-6


@given(costs, st.floats(0.05, 1))
def test_it_is_met_exactly_where_any_limit_binds(layers, density):
    alpha, f = (np.array(side) for side in zip(*layers, strict=True))
    best = np.array(synexp(alpha.tolist(), f.tolist(), density))
    used = max(alpha @ best / alpha.sum(), f @ best / f.sum())
    assert used == pytest.approx(density, rel=1e-6)


@given(st.lists(st.floats(1, 1000), min_size=2, max_size=6), st.floats(0.05, 0.9))
def test_with_one_limit_layers_that_are_not_dense_keep_as_many_parameters(alpha, density):
    best = np.array(synexp(alpha, alpha, density))
    kept = (best * alpha)[best < 1 - 1e-9]
    assert kept == pytest.approx(np.full(len(kept), kept[0] if len(kept) else 0), rel=1e-6)


@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=5), st.integers(0, 99))
def test_densities_that_widths_can_meet_are_met(multipliers, seed):
    m = [1.0, *multipliers, 1.0]  # the first and the last side of a chain stay
    last = len(multipliers)
    layers = []
    for i in range(last + 1):
        families = tuple(f for f in (i - 1, i) if 0 <= f < last)
        layers.append((families, 10.0 + seed * i, m[i] * m[i + 1]))
    assert widths(last, layers) == pytest.approx(multipliers, rel=1e-3)


def test_a_layer_is_not_cropped_twice():
    square = widths(2, [((0,), 1.0, 0.5), ((0, 1), 1.0, 0.25), ((1,), 1.0, 0.5)])
    assert square == pytest.approx([0.5, 0.5], rel=1e-3)


def test_a_depthwise_layer_has_its_density_as_its_width():
    assert widths(1, [((0,), 9.0, 0.3)]) == pytest.approx([0.3], rel=1e-3)


def test_a_layer_between_one_family_and_itself_has_the_square_root():
    assert widths(1, [((0, 0), 9.0, 0.25)]) == pytest.approx([0.5], rel=1e-3)


def test_no_width_is_above_one():
    assert max(widths(2, [((0,), 1.0, 1.0), ((0, 1), 100.0, 0.9), ((1,), 1.0, 0.1)])) <= 1


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


EXAMPLE = torch.randn(2, 3, 16, 16)


def counts_of(budget, target):
    space = Channels().find(net(), EXAMPLE)
    return budget.allocate(space, Stats(), target)[1]


@pytest.mark.parametrize("cost", ["params", "macs"])
@pytest.mark.parametrize("source", ["synexp", "erk", "uniform"])
def test_a_share_of_a_cost_is_met_by_the_smaller_network(cost, source):
    recipe = sc.Recipe(structure=Channels(), score=sc.scores.Random(), budget=Widths(source))
    result = sc.prune(net(), recipe, example=EXAMPLE, **{cost: 0.3})
    assert result.after[cost] / result.before[cost] == pytest.approx(0.3, abs=0.02)


def test_large_layers_give_most_by_parameters_and_early_ones_by_multiplications():
    by_params, by_macs = (counts_of(Widths(), Target(0.7, cost)) for cost in ("params", "macs"))
    assert by_params["4"] < by_macs["4"] and by_params["0"] >= by_macs["0"]


def test_both_limits_at_once_keep_no_more_than_either():
    both = counts_of(Widths(limits="both"), Target(0.7, "params"))
    one = counts_of(Widths(), Target(0.7, "params"))
    assert both != one


def test_densities_of_ones_own_that_fit_the_target_are_taken_as_they_are():
    names = [f"{i}.weight" for i in (0, 2, 4, 7)]
    own = dict(zip(names, (1.0, 0.5, 0.25, 0.5), strict=True))
    kept = 432 + 0.5 * 4608 + 0.25 * 18432 + 0.5 * 640
    counts = counts_of(Widths(densities=own), Target(1 - kept / (432 + 4608 + 18432 + 640), "params"))
    assert counts == {"0": 16, "2": 16, "4": 32}


def test_a_density_that_is_missing_is_named():
    with pytest.raises(RecipeError, match=r"2\.weight"):
        counts_of(Widths(densities={"0.weight": 0.5}), Target(0.5, "params"))


@pytest.mark.parametrize("wrong", [0.0, 1.5])
def test_a_density_outside_its_range_is_refused(wrong):
    with pytest.raises(RecipeError, match="above 0 and at most 1"):
        Widths(densities={"a": wrong})


def test_less_than_a_unit_is_an_error_that_says_what_is_possible():
    with pytest.raises(BudgetError, match="densities of layers from") as error:
        counts_of(Widths(), Target(0.9999, "params"))
    least = float(str(error.value).split("from ")[1].split(" of")[0])
    assert counts_of(Widths(), Target(1 - 1.01 * least, "params"))
    with pytest.raises(BudgetError):
        counts_of(Widths(), Target(1 - 0.98 * least, "params"))


def test_weights_and_data_make_no_difference():
    space = Channels().find(net(), EXAMPLE)
    first = Widths().allocate(space, Stats(), Target(0.6, "macs"))[1]
    with torch.no_grad():
        for group in space:
            for member in group.members:
                if member.is_parameter:
                    member.tensor.normal_()
    assert Widths().allocate(space, Stats(), Target(0.6, "macs"))[1] == first
