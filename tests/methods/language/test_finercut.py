"""FinerCut through `sc.prune`: one order for every target, and what is refused."""

from itertools import pairwise

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import registry
from secateur.scores import GreedyOrder

X = torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(0))


class Part(nn.Module):
    def __init__(self, width, scale):
        super().__init__()
        self.up, self.down, self.scale = nn.Linear(6, width), nn.Linear(width, 6), scale

    def forward(self, x):
        return self.scale * self.down(torch.relu(self.up(x)))


class Attention(Part):
    def forward(self, x):
        return super().forward(x.cumsum(1))


class Block(nn.Module):
    def __init__(self, scales):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(2))
        self.attn, self.mlp = Attention(4, scales[0]), Part(9, scales[1])

    def forward(self, x):
        x = x + self.attn(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


SCALES = ((1.0, 2.0), (0.5, 1.5), (0.0, 1.0), (0.1, 1.2), (0.4, 0.01))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(*map(Block, SCALES)), nn.Flatten(), nn.Linear(30, 3)).eval()


def task():
    data = torch.utils.data.TensorDataset(X, torch.arange(8) % 3)
    return sc.Task(train=data, test=data, batch_size=4)


def prune(**settings):
    return sc.prune(net(), "finercut", task=task(), **settings)


def gone(result):
    return {i for i, stays in enumerate(result.keep["0/sublayers"].tolist()) if not stays}


def test_its_defaults_are_the_papers():
    recipe = registry.get("finercut").recipe()
    assert recipe.score == GreedyOrder("js", samples=10, front=0.4, most=1.0, force=False, compat=False)
    assert recipe.structure.kinds == ("sublayers",) and recipe.structure.floor == 1
    assert registry.get("finercut").recipe(force=True).structure.floor == 0


def test_what_adds_nothing_goes_first_and_the_rest_stays():
    result = prune(sparsity=0.2, front=0.0)
    assert gone(result) == {4, 9}  # the attention of block 2, the MLP of block 4
    names = [name for name, _ in result.subject.named_parameters()]
    assert not any(n.startswith(("0.2.attn", "0.2.norms.0", "0.4.mlp", "0.4.norms.1")) for n in names)
    assert any(n.startswith("0.2.mlp") for n in names)


def test_larger_targets_go_on_where_smaller_ones_stopped():
    found = [gone(prune(sparsity=s)) for s in (0.1, 0.3, 0.5, 0.7)]
    assert [len(g) for g in found] == [1, 3, 5, 7]
    assert all(a < b for a, b in pairwise(found))


def test_the_first_blocks_stay_at_first():
    assert min(gone(prune(sparsity=0.4))) >= 4
    assert min(gone(prune(sparsity=0.7))) < 4


def test_a_cost_is_met_by_the_same_order():
    result = prune(params=0.7)
    assert result.after["params"] / result.before["params"] == pytest.approx(0.7, abs=0.06)
    assert gone(result) == gone(prune(sparsity=len(gone(result)) / 10))


@pytest.mark.parametrize("settings", [{"distance": d} for d in ("kl", "angular", "norm")] + [{"compat": True}])
def test_every_distance_finds_what_adds_nothing(settings):
    assert 4 in gone(prune(sparsity=0.1, **settings))


def test_all_of_a_class_go_only_by_force():
    with pytest.raises(sc.BudgetError, match=r"all units of a class would go(?s:.*)force=True"):
        prune(sparsity=0.9)
    assert len(gone(prune(sparsity=0.9, force=True))) == 9


def test_it_stops_where_the_order_does():
    assert len(gone(prune(sparsity=0.3, most=0.3))) == 3
    with pytest.raises(sc.BudgetError, match=r"the order was found for 0\.3 of them(?s:.*)most=0\.5"):
        prune(sparsity=0.5, most=0.3)


@pytest.mark.parametrize("wrong", [{"distance": "l2"}, {"samples": 0}, {"front": 1.2}, {"most": 2.0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(sc.RecipeError):
        prune(sparsity=0.3, **wrong)
