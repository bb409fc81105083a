"""Probe: FastV-like token selection. The count is decided offline, the same `Select` picks in the forward pass."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import secateur as sc
from secateur.core import Forward, Group, Plan, Score, Space, Statistic, Structure

WIDTH, HEADS, IMAGE, TEXT = 16, 2, 12, 4


class Layer(nn.Module):
    """Pre-norm causal self-attention with learned positions given from outside, and an MLP."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH))
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def attention(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        causal = torch.ones(n, n, dtype=torch.bool).tril()
        return scores.masked_fill(~causal, -torch.inf).softmax(-1), v

    def forward(self, x):
        weights, v = self.attention(x)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x)), weights


class Toy(nn.Module):
    """A language model whose prompt begins with IMAGE image tokens; `routes` prune after a layer."""

    def __init__(self, layers=4):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.positions = nn.Parameter(torch.randn(IMAGE + TEXT, WIDTH) * 0.1)
        self.head = nn.Linear(WIDTH, 7)
        self.routes = {}

    def forward(self, x):
        x = x + self.positions
        for i, layer in enumerate(self.layers):
            x, weights = layer(x)
            if i in self.routes:
                x = gather(x, self.routes[i](len(x), {LastRow(): weights[:, :, -1, :IMAGE].mean(1)}))
        return self.head(x[:, -1])


def gather(x, keep):
    """Image tokens that stay, in their order, and all text tokens."""
    whole = torch.cat([keep, torch.ones(len(x), x.shape[1] - keep.shape[1], dtype=torch.bool)], 1)
    return x[whole].view(len(x), -1, x.shape[-1])


@dataclass(frozen=True)
class LastRow(Statistic):
    """Attention of the prompt's last token to each image token, averaged over heads, in this forward pass."""

    on = Forward


@dataclass(frozen=True)
class Attended(Score):
    def __call__(self, group, stats):
        return stats[group, LastRow()]


@dataclass(frozen=True)
class ImageTokens(Structure):
    """Image tokens after a layer (K = 2 is after the second)."""

    after: int = 2

    def find(self, subject):
        return Space((Group(f"image tokens after layer {self.after}", (IMAGE,), runtime=True),))

    def apply_(self, subject, choice):
        (route,) = choice.routes.values()
        subject.routes[self.after - 1] = route
        return subject, Plan()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Toy().eval()


def pruned(model, sparsity):
    recipe = sc.Recipe(structure=ImageTokens(), score=Attended(), budget=sc.budgets.Uniform())
    return sc.prune(copy.deepcopy(model), recipe, sparsity=sparsity)


def inputs(batch=3, seed=0):
    return torch.randn(batch, IMAGE + TEXT, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_removing_nothing_changes_nothing(model):
    torch.testing.assert_close(pruned(model, 0.0).subject(inputs()), model(inputs()), atol=1e-5, rtol=1e-5)


def test_each_sequence_keeps_its_own_most_attended_tokens(model):
    small, x = pruned(model, 0.5).subject, inputs()
    hidden = x + model.positions
    for layer in model.layers[:2]:
        hidden, weights = layer(hidden)
    wanted = [sorted(row.argsort(descending=True)[: IMAGE // 2].tolist()) for row in weights[:, :, -1, :IMAGE].mean(1)]
    (route,) = small.routes.values()
    keep = route(3, {LastRow(): weights[:, :, -1, :IMAGE].mean(1)})
    assert [row.nonzero().flatten().tolist() for row in keep] == wanted
    assert len({tuple(w) for w in wanted}) > 1  # the sequences do differ


def test_the_batch_size_does_not_change_predictions(model):
    small, x = pruned(model, 0.5).subject, inputs()
    alone = torch.cat([small(row[None]) for row in x])
    torch.testing.assert_close(small(x), alone, atol=1e-5, rtol=1e-5)


def test_later_layers_really_compute_less(model):
    def flops(m):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            m(inputs(1))
        return counter.get_total_flops()

    half, tokens = IMAGE // 2, IMAGE + TEXT
    linear = 2 * WIDTH * 12 * WIDTH
    saved = 2 * (linear * half + 4 * WIDTH * (tokens**2 - (tokens - half) ** 2))
    assert flops(model) - flops(pruned(model, 0.5).subject) == saved


def test_the_result_reports_the_share_of_tokens_that_goes(model):
    assert pruned(model, 0.75).sparsity["per_group"] == {"image tokens after layer 2": 0.75}
