"""LRP as a recipe: shares of layers, what is refused. Rules are in tests/calibration, the claims in claims/lrp.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import Rules, Stats, Task, UnitRelevance, registry
from secateur.scores import LRP
from secateur.scores.relevance import share
from secateur.structures import Channels


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))


def task():
    g = torch.Generator().manual_seed(0)
    batch = (torch.randn(12, 3, generator=g), torch.arange(12) % 2)
    return Task(train=[batch], test=[batch])


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=8), st.floats(0.1, 10))
def test_shares_add_up_to_one_whatever_the_scale(values, factor):
    values = torch.tensor(values)
    assert share(values).sum().item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(share(factor * values), share(values), rtol=1e-4, atol=1e-6)


def test_a_layer_without_relevance_has_no_shares():
    assert (share(torch.zeros(3)) == 0).all()


def test_what_speaks_against_the_class_goes_first_unless_signs_do_not_count():
    group = Channels().find(net(), torch.randn(2, 3))["2"]
    maker = next(m.group for m in group.members if m.group.name == "2.weight")
    values = torch.tensor([3.0, -2.0, 1.0, 1.0, 1.0, 1.0])
    stats = Stats({("2.weight", UnitRelevance()): values})
    assert LRP()(maker, stats).argmin() == 1
    assert LRP(absolute=True)(maker, stats).flatten()[1] > 1 / 6


def test_a_unit_that_never_fires_goes_first():
    model = net()
    with torch.no_grad():
        for layer in (model[0], model[2]):  # all others fire
            layer.weight.abs_()
            layer.bias.fill_(5.0)
        model[0].weight[5], model[0].bias[5] = 0, -1.0
        model[2].weight[:, 5] = 100.0
    result = sc.prune(model, "lrp", sparsity=0.1, steps=1, start="one", include=("0",), task=task())
    assert not result.keep["0"][5]


def test_each_cut_looks_at_the_network_as_it_is_by_then():
    one, many = (sc.prune(net(), "lrp", sparsity=0.5, steps=s, task=task()) for s in (1, 7))
    assert (len(one.history), len(many.history)) == (1, 7)
    assert sum(one.keep.counts.values()) == sum(many.keep.counts.values()) == 7


def test_its_settings_reach_the_pass():
    score = registry.get("lrp").recipe(linear="epsilon", start="one", per_class=3, absolute=True).score.score
    assert score == LRP(Rules(linear="epsilon", start="one", per_class=3), absolute=True)


def test_single_weights_have_no_relevance():
    recipe = sc.Recipe(structure=sc.structures.Weights(), score=LRP())
    with pytest.raises(sc.RecipeError, match="of units, not of single weights"):
        sc.prune(net(), recipe, sparsity=0.5, task=task())
