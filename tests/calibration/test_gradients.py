"""Gradients of single samples, and what is said of memory before the first pass."""

import logging

import pytest
import torch
from torch import nn

from secateur.calibration import collect, gradients
from secateur.core import DiagonalFisher, Gradient, Group, SubjectError, Task
from secateur.structures import Weights

LOGGER = "secateur.calibration.gradients"


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.9), nn.Tanh(), nn.Linear(7, 3))


def batches(sizes=(4, 1, 2)):
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 5, generator=g), torch.randint(3, (n,), generator=g)) for n in sizes]


def gather(model, *statistics, data=None):
    data = batches() if data is None else data
    return collect(model, Weights().find(model), statistics, Task(train=data, test=data), data)


def by_hand(model):
    model.eval()
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    samples = [(x[None], y[None]) for batch in batches() for x, y in zip(*batch, strict=True)]
    for x, y in samples:
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        for name, parameter in model.named_parameters():
            total[name] += parameter.grad**2
    return {name: value / len(samples) for name, value in total.items()}


def test_the_fisher_diagonal_is_the_mean_of_squared_gradients_of_single_samples():
    expected = by_hand(net())
    found = gather(net(), DiagonalFisher())
    assert found.keys() == {("0.weight", DiagonalFisher()), ("3.weight", DiagonalFisher())}
    for (name, _), value in found.items():
        torch.testing.assert_close(value, expected[name])


def test_it_is_not_the_square_of_the_mean_gradient():
    found = gather(net(), DiagonalFisher(), Gradient())
    fisher, gradient = found["0.weight", DiagonalFisher()], found["0.weight", Gradient()]
    assert bool((fisher >= gradient.square() - 1e-9).all())  # the difference is the variance
    assert float(fisher.sum()) > 1.1 * float(gradient.square().sum())


def test_how_samples_are_batched_does_not_matter_and_workers_merge():
    model, statistic = net(), DiagonalFisher()
    whole = tuple(torch.cat(parts) for parts in zip(*batches(), strict=True))
    one, many = (gather(model, statistic, data=data) for data in ([whole], batches()))
    for key, value in one.items():
        torch.testing.assert_close(value, many[key])
    states = []
    for data in batches():
        state = statistic.zero(Group("w", (1,)))
        g = gather(model, statistic, data=[data])["0.weight", statistic]
        n = len(data[0])
        states.append({"sum": state["sum"] + g * n, "samples": state["samples"] + n})
    merged = statistic.merge(statistic.merge(states[0], states[1]), states[2])
    torch.testing.assert_close(statistic.value(merged), one["0.weight", statistic])


def test_frozen_parameters_are_named_for_single_samples_too():
    model = net()
    model[3].weight.requires_grad_(False)
    with pytest.raises(SubjectError, match=r"3\.weight"):
        gather(model, DiagonalFisher())


def test_the_memory_that_gradients_take_is_a_gradient_and_a_sum_for_each_statistic():
    space = Weights().find(net())
    elements = 5 * 7 + 7 * 3
    assert [gradients.gradient_bytes(space, n) for n in (1, 2)] == [elements * 8, elements * 12]
    half = Weights().find(net().bfloat16())
    assert gradients.gradient_bytes(half, 1) == elements * 6


def test_memory_is_told_before_the_first_pass(caplog):
    def broken():
        yield from ()
        raise AssertionError("a pass began")

    with caplog.at_level(logging.INFO, LOGGER), pytest.raises(AssertionError, match="a pass began"):
        gather(net(), Gradient(), data=broken())
    assert "gradients take 0.0 MiB beside weights of" in caplog.text


def test_too_little_memory_is_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(gradients, "free_bytes", lambda device: 100)
    with caplog.at_level(logging.WARNING, LOGGER):
        gather(net(), Gradient())
        assert "are free on cpu" in caplog.text
        caplog.clear()
        assert gather(net(), data=batches()) == {} and not caplog.text
