"""A training curve keeps its mean and its end, in bounded memory."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine.curve import Curve

losses = st.lists(st.floats(0, 10), max_size=300)


@given(losses)
def test_it_never_holds_more_points_than_it_may(values):
    curve = Curve(most=16)
    for step, value in enumerate(values):
        curve.add(step, value)
    assert len(curve.steps) == len(curve.losses) <= 16


@given(losses)
def test_each_point_is_the_mean_of_its_stretch(values):
    curve = Curve(most=16)
    for step, value in enumerate(values):
        curve.add(step, value)
    n = curve.stretch
    means = [sum(values[i : i + n]) / n for i in range(0, len(values) // n * n, n)]
    assert curve.losses == pytest.approx(means)
    assert curve.steps == [i + n - 1 for i in range(0, len(values) // n * n, n)]


@given(losses, st.integers(0, 300))
def test_a_resumed_curve_goes_on_as_if_it_had_not_stopped(values, at):
    whole, first = Curve(most=16), Curve(most=16)
    for step, value in enumerate(values):
        whole.add(step, value)
        if step < at:
            first.add(step, value)
    second = Curve(most=16)
    second.restore(json.loads(json.dumps(first.state())))
    for step, value in list(enumerate(values))[at:]:
        second.add(step, value)
    assert second.state() == whole.state()
