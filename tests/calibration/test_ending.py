"""Passes that end early hear what whole passes hear, and end only where nothing more would be heard."""

from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.calibration.ending import Ending
from secateur.core import (
    Forward,
    InputGram,
    InputMoments,
    InputNorm,
    InputTokens,
    NumericsError,
    Recipe,
    Statistic,
    Task,
)
from secateur.scores import Wanda
from secateur.structures import Weights

OF_INPUTS = (InputGram(), InputNorm(), InputTokens(), InputMoments())


@dataclass(frozen=True)
class OutputSum(Statistic):
    """Reads what layers give."""

    on = Forward

    def zero(self, group):
        return {"sum": torch.zeros(group.shape[0], dtype=torch.float64)}

    def update(self, state, event):
        return {"sum": state["sum"] + event.outputs.double().sum(0)}

    def merge(self, a, b):
        return {"sum": a["sum"] + b["sum"]}

    def value(self, state):
        return state["sum"]


class Counted(nn.Linear):
    """Knows how often it ran."""

    runs = 0

    def forward(self, x):
        self.runs += 1
        return super().forward(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), Counted(4, 4)
        self.norm, self.head = nn.LayerNorm(4), Counted(4, 9)

    def forward(self, x):
        return self.head(self.norm(self.last(self.first(x).tanh())))


class Experts(nn.Module):
    """Sends each batch to experts in an order that depends on it."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        values, route = x
        for number in route:
            values = self.experts[number](values).tanh()
        return self.norm(values)


def model(kind, seed=0):
    torch.manual_seed(seed)
    return kind()


def batches(count=4):
    g = torch.Generator().manual_seed(1)
    return [torch.randn(n % 3 + 1, 5, 4, generator=g) for n in range(count)]


def task(data):
    loss = lambda outputs, batch: outputs.sum()  # noqa: E731
    return Task(train=data, test=data, call=lambda model, batch: model(batch), loss=loss, metrics={})


def heard(net, data, statistics=OF_INPUTS, **more):
    return collect(net, Weights(**more).find(net), statistics, task(data), data)


@pytest.fixture
def whole(monkeypatch):
    """Gives what is heard where no pass ends early."""

    @contextmanager
    def passing(self):
        yield

    def of(*arguments, **more):
        with monkeypatch.context() as patched:
            patched.setattr(Ending, "passing", passing)
            return heard(*arguments, **more)

    return of


def same(a, b):
    assert a.keys() == b.keys() and a
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_last_layer_that_is_heard_and_what_follows_run_in_the_first_pass_alone(whole):
    net = model(Net)
    same(heard(net, batches(), exclude=("head*", "norm*")), whole(model(Net), batches(), exclude=("head*", "norm*")))
    assert (net.last.runs, net.head.runs) == (1, 1)


def test_a_layer_whose_outputs_are_heard_runs_in_all_passes(whole):
    net = model(Net)
    asked = (InputNorm(), OutputSum())
    same(heard(net, batches(), asked, exclude=("head*",)), whole(model(Net), batches(), asked, exclude=("head*",)))
    assert (net.last.runs, net.head.runs) == (4, 1)


ONCE = st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True)
ROUNDS = st.integers(2, 4).map(lambda rounds: [0, 1, 2] * rounds)


@given(st.lists(ONCE, min_size=1, max_size=6) | st.lists(ROUNDS, min_size=1, max_size=4))
def test_whatever_way_batches_take_what_is_heard_is_that_of_whole_passes(routes):
    data = [(values, tuple(route)) for values, route in zip(batches(len(routes)), routes, strict=True)]
    found = heard(model(Experts), data)
    sums = {}
    net = model(Experts)
    for values, route in data:
        for number in route:
            sums[number] = sums.get(number, 0) + values.reshape(-1, 4).double().T @ values.reshape(-1, 4).double()
            values = net.experts[number](values).tanh()
    heard_of = {name for name, _ in found}
    assert heard_of == {f"experts.{number}.weight" for number in sums}
    for number, total in sums.items():
        key = f"experts.{number}.weight"
        torch.testing.assert_close(found[key, InputGram()] * found[key, InputTokens()], total)


@pytest.mark.parametrize("around", ["hook", "pre-hook", "forward", "wrapper"])
def test_passes_are_whole_where_what_is_around_may_have_something_to_do(around):
    net = model(Net)
    outer = nn.Sequential(net)
    if around == "hook":
        net.register_forward_hook(lambda *_: None)
    elif around == "pre-hook":
        net.register_forward_pre_hook(lambda *_: None)
    elif around == "forward":
        net.forward = net.forward
    else:
        kind = type("Wrapper", (nn.Sequential,), {"__module__": "torch.distributed.of.some.kind"})
        outer = kind(net)
    heard(outer, batches(), exclude=("*head*", "*norm*"))
    assert net.head.runs == 4


def test_no_hook_is_left_behind():
    net = model(Net)
    heard(net, batches())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


class Fragile(nn.Module):
    """A block that gives NaN where it is given more than its limit."""

    def __init__(self, limit):
        super().__init__()
        self.up, self.down, self.limit = nn.Linear(4, 6), nn.Linear(6, 4), limit

    def forward(self, x):
        hidden = self.up(x).tanh()
        return x + self.down(hidden if x.abs().max() < self.limit else hidden * torch.nan)


@pytest.mark.parametrize("broken", [0, 3])
@pytest.mark.parametrize("propagation", ["pruned", "stages"])
def test_what_is_not_finite_is_found_in_any_pass_through_the_last_block(broken, propagation):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), *(Fragile(limit) for limit in (1e9, 1e9, 50.0)))
    data = batches()
    data[broken] = data[broken] * 1e3
    recipe = Recipe(Weights(exclude=("0.*",)), Wanda(), propagation=propagation)
    with pytest.raises(NumericsError, match=r"'3\."):
        sc.prune(net, recipe, sparsity=0.5, task=task(data))
