"""Weights with the price of an ideal sparse runtime."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.engine.measure import multiplications
from secateur.structures import SparseWeights, depthwise_weights

EXAMPLE = torch.randn(2, 3, 6, 6)


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 64, 1), nn.Flatten(), nn.Linear(1024, 16)
    )


def seen(**settings):
    return SparseWeights(**settings).seeing(lambda model: model(EXAMPLE))


def test_depthwise_convolutions_are_those_that_read_one_channel_each():
    assert depthwise_weights(net()) == ("1.weight",)
    assert depthwise_weights(nn.Conv2d(4, 8, 3, groups=4)) == ("weight",)
    assert depthwise_weights(nn.Conv2d(1, 8, 3)) == ()


def test_they_stay_unless_asked_for_and_the_reason_is_told():
    space = seen().find(net())
    assert [g.name for g in space] == ["0.weight", "2.weight", "4.weight"]
    assert space.skipped["1.weight"] == "a depthwise convolution"
    assert "1.weight" in seen(depthwise=True).find(net())


@given(st.integers(0, 2**16))
def test_the_price_is_what_the_example_multiplies_by_weights_that_are_not_zero(seed):
    model = net()
    space = seen(depthwise=True).find(model)
    g = torch.Generator().manual_seed(seed)
    keep = {group.name: torch.rand(group.shape, generator=g) < 0.5 for group in space}
    price = space.totals["macs"](keep)
    with torch.no_grad():
        for group in space:
            group.site.tensor.mul_(group.site.spread(keep[group.name]))
    assert price == pytest.approx(2 * multiplications(model, None, EXAMPLE)["macs_nonzero"], abs=12)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_share_of_the_ideal_multiplications_is_met(share):
    recipe = sc.Recipe(SparseWeights(), sc.scores.Magnitude())
    result = sc.prune(net(), recipe, macs=share, example=EXAMPLE)
    assert result.after["macs_nonzero"] / result.before["macs"] == pytest.approx(share, abs=0.01)
    assert result.after["macs"] == result.before["macs"]


def test_steps_to_it_only_ever_take_more(caplog):
    recipe = sc.Recipe(
        SparseWeights(), sc.scores.Random(), budget=sc.budgets.Global(), schedule=sc.schedules.Stepwise(4)
    )
    with caplog.at_level(logging.WARNING):
        result = sc.prune(net(), recipe, macs=0.3, example=EXAMPLE)
    gone = [h["sparsity"] for h in result.history]
    assert gone == sorted(gone) and len(set(gone)) == 4
    assert result.after["macs_nonzero"] / result.before["macs"] == pytest.approx(0.3, abs=0.01)
    assert "already sparser" not in caplog.text


def test_without_an_example_there_is_no_price():
    with pytest.raises(sc.RecipeError, match="no target of 'macs'"):
        sc.prune(net(), sc.Recipe(SparseWeights(), sc.scores.Magnitude()), macs=0.5)
    assert sc.prune(net(), sc.Recipe(SparseWeights(), sc.scores.Magnitude()), sparsity=0.5).sparsity["sparsity"] == 0.5
