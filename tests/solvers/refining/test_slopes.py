"""Gradients of single samples against a pass for each, and Hessians against differences of gradients."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from secateur.core import RecipeError, Task
from secateur.solvers.refining.slopes import Slopes, frozen, hessian
from secateur.structures import NM, Weights


class Tokens(nn.Module):
    """Linear layers on `[batch, time, width]`, one of them run twice, activations in place."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu_(self.first(x))
        return self.last(torch.tanh_(self.twice(torch.relu_(self.twice(x))))).mean(1)


class Turned(nn.Module):
    """Time first: rows of what the layers give are no samples."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.relu(self.first(x.transpose(0, 1)))).mean(0)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))))


def conv():
    return nn.Sequential(
        nn.Conv2d(4, 4, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def turned_linear():
    from transformers.pytorch_utils import Conv1D

    return nn.Sequential(Conv1D(6, 4), nn.Tanh(), nn.Linear(6, 3))


CASES = {
    "tokens": (Tokens, (5, 6, 4)),
    "turned": (Turned, (5, 6, 4)),
    "tied": (Tied, (5, 4)),
    "conv": (conv, (5, 4, 8, 8)),
    "conv1d": (turned_linear, (5, 4)),
}


def case(name, structure=Weights()):
    make, shape = CASES[name]
    torch.manual_seed(0)
    model = make().eval()
    batch = (torch.randn(shape), torch.randint(3, (len(torch.zeros(shape)),)))
    task = Task(train=[batch], test=[batch])
    return model, task, batch, structure.find(model)


def slow(model, task, batch, group):
    rows = []
    for i in range(len(batch[0])):
        model.zero_grad()
        one = (batch[0][i : i + 1], batch[1][i : i + 1])
        group.site.tensor.requires_grad_()
        task.loss(task.call(model, one), one).backward()
        rows.append(group.site.unfold(group.site.tensor.grad).flatten().clone())
        model.zero_grad()
    return torch.stack(rows)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("structure", [Weights(), NM(1, 2)])
def test_they_are_those_of_a_pass_for_each_sample(name, structure):
    model, task, batch, space = case(name, structure)
    for group in space:
        expected = slow(model, task, batch, group)
        with frozen(model):
            found = Slopes(model, task, batch, group)
            entries = torch.randperm(group.size)[:7]
            torch.testing.assert_close(found.of(entries), expected[:, entries])
            torch.testing.assert_close(found.mean.flatten(), expected.mean(0))


def test_a_pass_for_each_sample_is_only_taken_where_it_must_be():
    ways = {}
    for name in CASES:
        model, task, batch, space = case(name)
        with frozen(model):
            ways[name] = [Slopes(model, task, batch, g)._calls is not None for g in space]
    assert ways["tokens"] == [True] * 3 and ways["conv"] == [True, False, True] and ways["conv1d"] == [True] * 2
    assert ways["turned"] == [False] * 2 and ways["tied"] == [False, True]


@pytest.mark.parametrize("name", ["tokens", "conv", "conv1d", "tied"])
@pytest.mark.parametrize("piece", [None, 2])
def test_the_hessian_is_that_of_differences_of_gradients(name, piece):
    model, task, batch, _ = case(name)
    model = model.double()
    model.apply(lambda m: setattr(m, "inplace", False) if hasattr(m, "inplace") else None)
    batch = (batch[0].double(), batch[1])
    task = Task(train=[batch], test=[batch])
    group = next(iter(Weights().find(model)))
    entries = torch.randperm(group.size)[:5]
    with frozen(model):
        found = hessian(model, task, batch, group, entries, piece)
        rows = []
        for entry in entries.tolist():
            sides = []
            for step in (1e-5, -1e-5):
                moved = group.weight.contiguous().clone()
                moved.view(-1)[entry] += step
                before = group.site.tensor.data.clone()
                group.site.tensor.data.copy_(group.site.fold(moved))
                group.site.tensor.requires_grad_()
                (slope,) = torch.autograd.grad(task.loss(task.call(model, batch), batch), group.site.tensor)
                group.site.tensor.requires_grad_(False)
                group.site.tensor.data.copy_(before)
                sides.append(group.site.unfold(slope).flatten()[entries])
            rows.append((sides[0] - sides[1]) / 2e-5)
    torch.testing.assert_close(found.double(), torch.stack(rows), rtol=1e-4, atol=1e-5)


def test_a_loss_that_cannot_be_differentiated_twice_says_what_to_do():
    class Attention(nn.Linear):
        def forward(self, x):
            heads = super().forward(x)[:, None]
            return nn.functional.scaled_dot_product_attention(heads, heads, heads).mean((1, 2))

    model = Attention(8, 8)
    batch = (torch.randn(5, 6, 8), torch.randint(3, (5,)))
    (group,) = Weights().find(model)
    task = Task(train=[batch], test=[batch])
    with frozen(model), pytest.raises(RecipeError, match="gradient_per_sample"):
        hessian(model, task, batch, group, torch.arange(3))
    with frozen(model), sdpa_kernel(SDPBackend.MATH):
        assert hessian(model, task, batch, group, torch.arange(3)).isfinite().all()


def test_a_layer_that_does_not_run_has_no_slope():
    model = nn.Sequential(nn.Linear(4, 3))
    model.spare = nn.Linear(4, 3)
    model.forward = lambda x: model[0](x)
    batch = (torch.randn(5, 4), torch.randint(3, (5,)))
    space = Weights().find(model)
    with frozen(model):
        found = Slopes(model, Task(train=[batch], test=[batch]), batch, space["spare.weight"])
        assert not found.used and not found.mean.any() and not found.of(torch.arange(4)).any()
        assert Slopes(model, Task(train=[batch], test=[batch]), batch, space["0.weight"]).used


def test_a_weight_that_is_read_without_calling_its_layer_has_one():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.last = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x):
            return self.last(self.attention(x, x, x, need_weights=False)[0]).mean(1)

    model = Net().eval()
    batch = (torch.randn(5, 6, 8), torch.randint(3, (5,)))
    task = Task(train=[batch], test=[batch])
    for group in Weights().find(model):
        expected = slow(model, task, batch, group)
        with frozen(model):
            found = Slopes(model, task, batch, group)
            torch.testing.assert_close(found.of(torch.arange(9)), expected[:, :9])


def test_layers_may_be_called_by_keyword():
    model = nn.Sequential(nn.Linear(4, 3))
    model.forward = lambda x: model[0](input=x)
    batch = (torch.randn(5, 4), torch.randint(3, (5,)))
    task = Task(train=[batch], test=[batch])
    (group,) = Weights().find(model)
    expected = slow(model, task, batch, group)
    with frozen(model):
        torch.testing.assert_close(Slopes(model, task, batch, group).of(torch.arange(12)), expected)
