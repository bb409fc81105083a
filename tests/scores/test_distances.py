"""Distances of outputs against their textbook forms, written as loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import Greedy, RecipeError, Stats
from secateur.scores import GreedyOrder
from secateur.scores.distances import angular, js, js_released, kl, norm
from secateur.scores.greedy_order import RemovalOrder
from secateur.structures import Weights

seeds, rows, classes = st.integers(0, 2**16), st.integers(1, 4), st.integers(2, 6)


def draw(seed, *shape):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_kl(p, q):
    return sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q, strict=True))


@given(seeds, rows, classes)
def test_js_is_the_mean_divergence_from_the_mixture(seed, n, c):
    a, b = draw(seed, n, c), draw(seed + 1, n, c)
    slow = []
    for p, q in zip(a.softmax(-1), b.softmax(-1), strict=True):
        m = (p + q) / 2
        slow.append((slow_kl(p, m) + slow_kl(q, m)) / 2)
    torch.testing.assert_close(js(a, b), torch.tensor(slow, dtype=torch.float64), atol=1e-9, rtol=1e-6)


@given(seeds, rows, classes)
def test_the_released_form_has_the_mixture_first_and_the_mean_over_classes(seed, n, c):
    a, b = draw(seed, n, c), draw(seed + 1, n, c)
    p, q = a.log_softmax(-1), b.log_softmax(-1)
    m = (p.exp() + q.exp()) / 2
    theirs = sum(torch.nn.functional.kl_div(x, m, reduction="none").mean() for x in (p, q)) / 2
    torch.testing.assert_close(js_released(a, b).mean(), theirs, atol=1e-9, rtol=1e-6)


@given(seeds, rows, classes)
def test_js_is_symmetric_bounded_and_zero_for_the_same(seed, n, c):
    a, b = draw(seed, n, c), draw(seed + 1, n, c)
    torch.testing.assert_close(js(a, b), js(b, a))
    assert (js(a, b) >= 0).all() and (js(a, b) <= math.log(2) + 1e-9).all()
    assert (js(a, a + 5).abs() < 1e-9).all()  # logits that differ by a constant are the same distribution


@given(seeds, rows, classes)
def test_angular_is_the_arc_of_the_cosine_which_is_no_less_than_zero(seed, n, c):
    a, b = draw(seed, n, c), draw(seed + 1, n, c)
    slow = [math.acos(min(max(float(x @ y / (x.norm() * y.norm())), 0.0), 1.0)) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(angular(a, b), torch.tensor(slow, dtype=torch.float64), atol=1e-6, rtol=1e-6)


@given(seeds, rows, classes)
def test_norm_is_that_of_the_difference_of_each_sample(seed, n, c):
    a, b = draw(seed, 2, n, c), draw(seed + 1, 2, n, c)
    slow = [math.sqrt(sum(float(v) ** 2 for v in (x - y).flatten())) for x, y in zip(a, b, strict=True)]
    torch.testing.assert_close(norm(a, b), torch.tensor(slow, dtype=torch.float64))


@pytest.mark.parametrize("distance, of", [("js", js), ("kl", kl), ("angular", angular)])
def test_a_distance_is_summed_over_tokens_that_are_no_padding(distance, of):
    a, b = draw(0, 2, 3, 5), draw(1, 2, 3, 5)
    real = torch.tensor([[True, True, False], [True, False, False]])
    total, count = RemovalOrder(distance).apart(a, b, real)
    assert count == 3
    assert total == pytest.approx(float(of(a[real], b[real]).sum()))


def test_the_norm_is_counted_in_samples_and_plain_logits_are_rows():
    a, b = draw(0, 2, 3, 5), draw(1, 2, 3, 5)
    total, count = RemovalOrder("norm").apart(a, b, None)
    assert count == 2 and total == pytest.approx(float(norm(a, b).sum()))
    total, count = RemovalOrder().apart(a[:, 0], b[:, 0], None)
    assert count == 2 and total == pytest.approx(float(js(a[:, 0], b[:, 0]).sum()))


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"front": 1.0}, {"most": 0.0}, {"distance": "kl", "compat": True}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(RecipeError):
        GreedyOrder(**wrong)


def test_other_units_than_whole_layers_are_refused():
    with pytest.raises(RecipeError, match="whole layers"):
        GreedyOrder()(Weights().find(torch.nn.Linear(3, 3)).groups[0], Stats())
    assert GreedyOrder().needs == (RemovalOrder("js", Greedy()),)
