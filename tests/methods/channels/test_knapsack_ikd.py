"""Knapsack-IKD: values of channels, and which groups it leaves alone. The claims are in secateur/claims/."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.core import Stats, Task, registry
from secateur.structures import Channels
from secateur.tasks.models import CifarResNet

seeds = st.integers(0, 2**16)


class Block(nn.Module):
    """A stem whose channels a residual branch reads and writes, and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.inner = nn.Conv2d(4, 6, 3, padding=1)
        self.outer = nn.Conv2d(6, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + self.outer(torch.relu(self.inner(x)))
        return self.head(x.mean((2, 3)))


def net(seed=0):
    torch.manual_seed(seed)
    return Block().double()


def task(batches=3):
    g = torch.Generator().manual_seed(0)
    found = [(torch.randn(4, 1, 5, 5, generator=g, dtype=torch.float64), torch.arange(4) % 3) for _ in range(batches)]
    return Task(train=found, test=found, training=sc.Training(epochs=1))


def mean_gradient(model, name):
    loss = sum(nn.functional.cross_entropy(model(x), y) for x, y in task().train) / 3
    return torch.autograd.grad(loss, model.get_parameter(name))[0]


def values(model, **settings):
    recipe = registry.get("knapsack-ikd").recipe(**settings)
    space = recipe.structure.find(model, task().train[0][0])
    stats = Stats(collect(model, space.leaves(), recipe.score.needs, task(), task().batches()))
    return {g.name: recipe.score(g, stats) for g in space}


@given(seeds)
def test_a_channel_is_worth_the_product_of_its_weights_with_the_mean_gradient(seed):
    model = net(seed)
    w, g = model.inner.weight.detach(), mean_gradient(model, "inner.weight")
    slow = torch.stack([(w[o] * g[o]).abs().sum() for o in range(6)])
    torch.testing.assert_close(values(model)["inner"], slow, rtol=1e-5, atol=1e-8)


def test_a_stream_is_worth_what_all_its_writers_are():
    model = net()
    parts = [
        (model.get_parameter(n).detach() * mean_gradient(model, n)).abs().sum((1, 2, 3))
        for n in ("stem.weight", "outer.weight")
    ]
    torch.testing.assert_close(values(model, streams=True)["stem"], sum(parts), rtol=1e-5, atol=1e-8)


def test_streams_stay_unless_asked_for():
    assert set(values(net())) == {"inner"}
    assert set(values(net(), streams=True)) == {"stem", "inner"}


def test_of_a_resnet_only_what_lies_inside_blocks_goes():
    model = CifarResNet(8, 4)
    names = {g.name for g in Channels(streams=False).find(model, torch.randn(2, 3, 16, 16))}
    assert names == {f"layer{i}.0.conv1" for i in (1, 2, 3)}


def test_layers_side_by_side_are_no_stream():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up, self.down = nn.Linear(3, 8), nn.Linear(3, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.down(torch.sigmoid(self.gate(x)) * self.up(x))

    assert len(Channels(streams=False).find(Gated(), torch.randn(2, 3))) == 1


def test_multiplications_go_where_they_are_worth_least():
    """Two layers of equal values: the one with a large map gives its channels up first."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.large, self.small = nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 1)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            x = nn.functional.avg_pool2d(torch.relu(self.large(x)), 4)
            return self.head(torch.relu(self.small(x)).mean((2, 3)))

    torch.manual_seed(0)
    score = sc.scores.Random()
    recipe = sc.Recipe(structure=Channels(), score=score, budget=sc.budgets.Knapsack())
    kept = sc.prune(Two(), recipe, macs=0.5, example=torch.randn(2, 1, 16, 16)).keep.counts
    assert kept["large"] < kept["small"] == 8


def test_frozen_layers_are_named():
    model = net()
    model.inner.weight.requires_grad_(False)
    with pytest.raises(sc.SubjectError, match=r"inner\.weight"):
        sc.prune(model, "knapsack-ikd", sparsity=0.3, task=task())


def test_without_inner_distillation_it_only_trains():
    parts = [type(r).__name__ for r in registry.get("knapsack-ikd").recipe(inner=0.0).recovery]
    assert parts == ["FineTune"]
