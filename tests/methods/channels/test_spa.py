"""SPA: per-tensor scaling and aggregation on a small network. The paper's claim is in secateur/claims/spa.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import Gradient, Stats, registry
from secateur.structures import Channels

seeds = st.integers(0, 2**16)
EXAMPLE = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)).double()


def score(model, stats=None, **settings):
    (group,) = Channels().find(model, EXAMPLE)
    return registry.get("spa").recipe(**settings).score(group, stats or Stats())


def by_hand(first, bias, second):
    parts = [torch.stack([t[k].sum() for k in range(4)]) for t in (first, bias, second.T)]
    total = sum(p / p.mean() for p in parts)
    return (total / total.mean()).detach()


@given(seeds)
def test_magnitudes_equal_the_formula_written_as_loops(seed):
    model = net(seed)
    expected = by_hand(model[0].weight.abs(), model[0].bias.abs(), model[2].weight.abs())
    torch.testing.assert_close(score(model), expected)


@given(seeds)
def test_snip_equals_the_formula_with_gradients(seed):
    model = net(seed)
    g = torch.Generator().manual_seed(seed)
    grads = {n: torch.randn(p.shape, generator=g, dtype=p.dtype) for n, p in model.named_parameters()}
    stats = Stats({(n, Gradient()): v for n, v in grads.items()})
    products = {n: (p * grads[n]).abs() for n, p in model.named_parameters()}
    expected = by_hand(products["0.weight"], products["0.bias"], products["2.weight"])
    torch.testing.assert_close(score(model, stats, criterion="snip"), expected)


@given(seeds, st.sampled_from(["0.weight", "0.bias", "2.weight"]), st.floats(0.1, 10))
def test_the_scale_of_one_tensor_does_not_matter(seed, name, factor):
    model = net(seed)
    before = score(model)
    with torch.no_grad():
        model.get_parameter(name).mul_(factor)
    torch.testing.assert_close(score(model), before)


def test_without_scaling_the_largest_tensor_decides():
    model = net()
    with torch.no_grad():
        model[2].weight.mul_(1e6)
    order = model[2].weight.abs().sum(0).argsort()
    assert torch.equal(score(model, scale="none").argsort(), order)


def test_a_tensor_of_zeros_adds_nothing():
    model = net()
    with torch.no_grad():
        model[0].bias.zero_()
    assert score(model).isfinite().all()


@pytest.mark.parametrize("at", [0, "1 epoch", 1.0])
def test_it_prunes_before_during_and_after_training(at):
    g = torch.Generator().manual_seed(0)
    batches = [(torch.randn(4, 2, generator=g, dtype=torch.float64), torch.arange(4) % 3) for _ in range(3)]
    task = sc.Task(train=batches, test=batches, training=sc.Training(epochs=2))
    result = sc.prune(net(), "spa", sparsity=0.5, at=at, epochs=2, task=task, criterion="snip", device="cpu")
    assert result.keep.counts == {"0": 2}
    assert result.history[0]["step"] == {0: 0, "1 epoch": 3, 1.0: 6}[at]
