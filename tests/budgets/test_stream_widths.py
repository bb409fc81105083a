"""Widths of a stream: rounded down, the same everywhere or along a line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import secateur as sc
from secateur.budgets import StreamWidths
from secateur.core import Group, Space, Stats, Target


def widths(budget, sparsity, width=64, places=5):
    space = Space(tuple(Group(f"place {i}", (width, 1)) for i in range(places)))
    return list(budget.allocate(space, Stats(), Target(sparsity))[1].values())


@given(st.floats(0.01, 0.85), st.integers(1, 8))
def test_what_stays_is_a_multiple_and_never_more_than_the_share(sparsity, multiple):
    (stay, *others) = widths(StreamWidths(multiple), sparsity)
    assert all(other == stay for other in others) and stay % multiple == 0
    assert (1 - sparsity) * 64 - multiple < stay <= (1 - sparsity) * 64 + 1e-9


def test_the_decimal_counts_as_it_is_written():
    assert widths(StreamWidths(1), 0.1, width=30) == [27] * 5


def test_no_sparsity_keeps_all_whatever_the_multiple():
    assert widths(StreamWidths(8), 0.0, width=30) == [30] * 5


def test_a_tilt_is_a_line_over_the_depth():
    assert widths(StreamWidths(1, tilt=0.5), 0.5) == [48, 40, 32, 24, 16]
    assert widths(StreamWidths(1, tilt=-0.5), 0.5) == [16, 24, 32, 40, 48]


@pytest.mark.parametrize(("sparsity", "budget"), [(0.95, StreamWidths(8)), (0.6, StreamWidths(8, tilt=1.0))])
def test_a_width_of_nothing_names_the_place(sparsity, budget):
    with pytest.raises(sc.BudgetError, match="place"):
        widths(budget, sparsity)


@pytest.mark.parametrize("wrong", [{"multiple": 0}, {"tilt": 1.5}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(sc.RecipeError, match="StreamWidths"):
        StreamWidths(**wrong)
