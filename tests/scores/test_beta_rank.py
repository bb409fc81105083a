"""Beta-Rank's spreads against the formula over positions, whatever the batches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.calibration import collect
from secateur.core import Forward, Group, RecipeError, Stats, Task
from secateur.scores.beta_rank import BetaRank, SpreadRatio, beta_rank, spread_ratio
from secateur.structures import Weights

seeds = st.integers(0, 2**16)
ratios = st.sampled_from(["out/in", "in/out"])


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(conv, x, ratio):
    """Position by position: std over samples of the output, std of all entries of the padded patch."""
    y, p, s, k = conv(x).detach(), conv.padding[0], conv.stride[0], conv.kernel_size[0]
    padded = nn.functional.pad(x, (p, p, p, p))
    total = torch.zeros(y.shape[1], dtype=torch.float64)
    for h in range(y.shape[2]):
        for w in range(y.shape[3]):
            b = padded[:, :, h * s : h * s + k, w * s : w * s + k].std()
            for f in range(y.shape[1]):
                a = y[:, f, h, w].std()
                total[f] += a / b if ratio == "out/in" else b / a
    return conv.weight.detach().abs() * total[:, None, None, None]


def found(model, batches, ratio):
    space = Weights().find(model)
    task = Task(train=batches, test=batches)
    stats = Stats(collect(model, space, (SpreadRatio(ratio),), task, batches))
    (group,) = space
    return BetaRank(ratio)(group, stats)


@given(st.integers(1, 3), st.integers(1, 2), st.integers(0, 1), ratios, seeds)
def test_it_equals_the_formula_written_as_loops(channels, stride, padding, ratio, seed):
    torch.manual_seed(seed)
    conv = nn.Conv2d(channels, 3, 2, stride, padding).double()
    x = drawn(5, channels, 4, 4, seed=seed)
    expected = by_hand(conv, x, ratio).flatten(1)
    torch.testing.assert_close(found(conv, [(x,)], ratio), expected, rtol=1e-6, atol=1e-8)


@given(st.integers(1, 7), seeds)
def test_batches_make_no_difference(cut, seed):
    conv, x = nn.Conv2d(2, 3, 3).double(), drawn(8, 2, 5, 5, seed=seed)
    torch.testing.assert_close(found(conv, [(x[:cut],), (x[cut:],)], "out/in"), found(conv, [(x,)], "out/in"))


@given(seeds)
def test_two_workers_equal_one(seed):
    x, y, spread = drawn(6, 4, seed=seed), drawn(6, 3, seed=seed + 1), SpreadRatio()
    one, two = (
        spread.update(spread.zero(Group("g", (3,))), Forward(x[s], y[s], samples=3)) for s in (slice(3), slice(3, 6))
    )
    whole = spread.update(spread.zero(Group("g", (3,))), Forward(x, y, samples=6))
    torch.testing.assert_close(spread.value(spread.merge(one, two)), spread.value(whole))


def test_a_linear_layer_has_one_position():
    linear, x = nn.Linear(4, 3).double(), drawn(9, 4)
    expected = linear.weight.detach().abs() * (linear(x).detach().std(0) / x.std())[:, None]
    torch.testing.assert_close(found(linear, [(x,)], "out/in"), expected)


def test_the_spread_is_over_samples_and_not_over_space():
    conv = nn.Conv2d(1, 1, 1, bias=False).double()
    x = drawn(1, 1, 6, 6).expand(4, 1, 6, 6)  # every sample the same, every position another
    assert (found(conv, [(x,)], "out/in") == 0).all()


def test_a_filter_that_says_nothing_scores_nothing_however_large_it_is():
    conv, x = nn.Conv2d(2, 2, 1, bias=False).double(), drawn(6, 1, 3, 3).repeat(1, 2, 1, 1)
    with torch.no_grad():
        conv.weight[0, 0], conv.weight[0, 1] = 100.0, -100.0  # what one channel adds, its twin takes away
    score = found(conv, [(x,)], "out/in").sum(1)
    assert score[0] < 1e-6 * score[1]


@given(ratios)
def test_positions_that_divide_by_zero_are_left_out(ratio):
    outputs, inputs = torch.tensor([[1.0, 0.0], [2.0, 2.0]]), torch.tensor([0.0, 4.0])
    expected = [0.5, 0.5] if ratio == "out/in" else [2.0, 2.0]
    assert spread_ratio(outputs, inputs, ratio).tolist() == expected


def test_constant_inputs_are_constant_in_spite_of_round_off():
    conv, x = nn.Conv2d(1, 2, 1).double(), torch.full((7, 1, 2, 2), 0.1, dtype=torch.float64)
    assert (found(conv, [(x,)], "out/in") == 0).all()


@given(st.floats(0.1, 10), seeds)
def test_the_scale_of_the_data_does_not_matter(factor, seed):
    conv, x = nn.Conv2d(2, 3, 3, bias=False).double(), drawn(5, 2, 4, 4, seed=seed)
    torch.testing.assert_close(found(conv, [(factor * x,)], "out/in"), found(conv, [(x,)], "out/in"))


def test_the_formula_is_a_product():
    assert beta_rank(torch.tensor([[-2.0, 1.0]]), torch.tensor([[3.0]])).tolist() == [[6.0, 3.0]]


def test_one_sample_is_not_enough():
    with pytest.raises(RecipeError, match=">= 2 samples"):
        found(nn.Conv2d(1, 1, 1).double(), [(drawn(1, 1, 2, 2),)], "out/in")
