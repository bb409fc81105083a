"""LAMP, against the double loop of equation 4."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import Lamp
from secateur.budgets.lamp import lamp
from secateur.core import BudgetError, Group, Space, Stats, Target, TopK

INF = float("inf")
magnitudes = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(2**-10, 100, width=32)


def double_loop(row):
    """Equal magnitudes are ordered by index: the later one counts as the larger, and the last one scores 1."""
    alive = sorted((i for i, v in enumerate(row) if v != -INF), key=lambda i: (row[i], i))
    out = [-INF] * len(row)
    for u in alive:
        above = sum(row[v] ** 2 for v in alive if (row[v], v) >= (row[u], u))
        out[u] = row[u] ** 2 / above if above else float(u == alive[-1])
    return torch.tensor(out, dtype=torch.float64)


@given(st.lists(magnitudes | st.just(-INF), min_size=1, max_size=20).filter(lambda row: max(row) >= 0))
def test_lamp_equals_the_double_loop_in_float64(row):
    score = torch.tensor(row)
    torch.testing.assert_close(lamp(score), double_loop(score.double().tolist()))


def test_lamp_without_ties_sums_all_weights_that_are_at_least_as_large():
    assert lamp(torch.tensor([3.0, 1.0, 2.0])).tolist() == pytest.approx([1, 1 / 14, 4 / 13])


@given(st.lists(magnitudes, min_size=1, max_size=20), st.data())
def test_within_a_layer_the_order_is_that_of_magnitude(row, data):
    score, keep = torch.tensor(row), data.draw(st.integers(0, len(row)))
    rng = torch.Generator()
    assert torch.equal(TopK()(lamp(score), keep, rng), TopK()(score.double(), keep, rng))


def test_the_scale_of_a_layer_does_not_matter():
    score = torch.rand(50) + 0.1
    torch.testing.assert_close(lamp(score * 8), lamp(score))


def test_the_sum_over_a_large_layer_is_exact_enough():
    score = torch.full((200_000,), 0.1)
    expected = 1 / torch.arange(200_000, 0, -1, dtype=torch.float64)
    torch.testing.assert_close(lamp(score), expected, rtol=1e-9, atol=0)


def test_what_is_gone_counts_for_nothing():
    score = torch.tensor([-INF, 1.0, -INF, 2.0])
    assert lamp(score).tolist() == [-INF, pytest.approx(1 / 5), -INF, 1.0]


def test_the_shape_of_a_layer_is_kept():
    assert lamp(torch.rand(3, 4)).shape == (3, 4)


layers = st.lists(st.lists(magnitudes, min_size=1, max_size=12), min_size=1, max_size=5)


@given(layers, st.data())
def test_no_layer_is_emptied_while_there_is_a_unit_for_each(rows, data):
    space = Space(tuple(Group(str(i), (len(r),)) for i, r in enumerate(rows)))
    stay = data.draw(st.integers(len(rows), space.size))
    scores = {str(i): torch.tensor(r) for i, r in enumerate(rows)}
    _, counts = Lamp().allocate(space, Stats(scores=scores), Target(1 - stay / space.size))
    assert min(counts.values()) >= 1


def test_a_layer_of_zeros_keeps_its_last_unit_too():
    space = Space((Group("zeros", (4,)), Group("other", (4,))))
    scores = {"zeros": torch.zeros(4), "other": torch.rand(4) + 1}
    assert Lamp().allocate(space, Stats(scores=scores), Target(0.75))[1] == {"zeros": 1, "other": 1}


def test_scores_that_are_no_magnitudes_are_refused():
    space = Space((Group("a", (2,)),))
    with pytest.raises(BudgetError, match=r"(?s)negative.*group 'a'"):
        Lamp().allocate(space, Stats(scores={"a": torch.tensor([-1.0, 2.0])}), Target(0.5))
