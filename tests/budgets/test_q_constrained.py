"""q-constrained: the parabola's minimum, the refined space, and which sample is taken."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import QConstrained
from secateur.budgets.bands import first_units
from secateur.budgets.q_constrained import best_ratio
from secateur.core import RecipeError, Stats, Target

from .test_bands import chain


@given(st.floats(2, 8), st.floats(0.1, 5), st.floats(-1, 1))
def test_the_best_ratio_is_the_lowest_point_of_a_parabola_over_its_log(best, steep, shift):
    ratios = [1, 2, 3, 5, 7, 10]
    errors = [shift + steep * (math.log(r) - math.log(best)) ** 2 for r in ratios]
    assert best_ratio(ratios, errors) == pytest.approx(best, rel=1e-3)


@given(st.lists(st.floats(1, 100), min_size=1, max_size=8), st.data())
def test_it_lies_among_the_ratios_that_were_seen(ratios, data):
    errors = data.draw(st.lists(st.floats(0, 1), min_size=len(ratios), max_size=len(ratios)))
    assert min(ratios) * 0.999 <= best_ratio(ratios, errors) <= max(ratios) * 1.001


def test_errors_that_only_fall_put_it_at_the_end():
    assert best_ratio([1, 2, 4, 8], [4, 3, 2, 1]) == pytest.approx(8)


def ratio_of(space, keep):
    masks = {name: keep[name] for name in keep}
    return space.totals["macs"](masks) / space.totals["params"](masks)


def allocated(wanted, share=0.5, **settings):
    """Counts where the quality of a keep depends on its ratio alone, best at `wanted`; and all that was tried."""
    space, tried = chain([30, 30, 30]), []

    def trial(keep):
        tried.append(ratio_of(space, keep))
        return -abs(math.log(tried[-1] / wanted))

    scores = {g.name: torch.rand(g.size, generator=torch.Generator().manual_seed(0)) for g in space}
    evidence = Stats(scores=scores, trial=trial)
    _, counts = QConstrained(**settings).allocate(space, evidence, Target(1 - share, "macs"))
    masks = first_units(space, counts)
    return space.totals["macs"](masks) / space.totals["macs"]({}), ratio_of(space, masks), tried


def test_it_comes_near_the_best_ratio_within_the_band():
    share, ratio, tried = allocated(290.0)
    assert share == pytest.approx(0.5, rel=0.011) and len(tried) <= 30
    assert abs(ratio / 290 - 1) <= min(abs(r / 290 - 1) for r in tried[20:]) + 1e-6


def test_a_given_ratio_is_not_fitted_and_all_that_is_tried_lies_near_it():
    _, _ratio, tried = allocated(290.0, ratio=290.0, samples=5)
    assert len(tried) == 5 and all(abs(r / 290 - 1) <= 0.1 for r in tried)


def test_where_the_refined_space_is_empty_the_nearest_stand_in():
    share, _, tried = allocated(5.0, ratio=5.0, samples=3)
    assert share == pytest.approx(0.5, rel=0.011) and len(tried) == 3


def test_it_needs_a_task_unless_nothing_goes():
    space = chain([8, 8])
    assert QConstrained().allocate(space, Stats(), Target(0))[1] == {"g0": 8, "g1": 8}
    with pytest.raises(RecipeError, match="there is no task"):
        QConstrained().allocate(space, Stats(), Target(0.5, "macs"))


@pytest.mark.parametrize("wrong", [{"width": 0}, {"fit": 2}, {"samples": 0}, {"least": 1.0}, {"ratio": 0.0}])
def test_a_setting_outside_its_range_is_refused(wrong):
    with pytest.raises(RecipeError, match="3 samples or more"):
        QConstrained(**wrong)
