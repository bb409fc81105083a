"""Pruning spaces as a method: the target is met by the budget itself. The claims are in claims/pruning_spaces.py."""

import pytest
import torch

import secateur as sc
from secateur.core import registry
from secateur.tasks.models import DigitsCNN


def net():
    torch.manual_seed(0)
    return DigitsCNN(16).eval()


@pytest.fixture(scope="module")
def task():
    return sc.tasks.builtin_task("digits")


def run(task, **options):
    settings = {"fit": 4, "samples": 2, "batches": 2, "task": task, "device": "cpu"} | options
    return sc.prune(net(), "pruning-spaces", **settings)


@pytest.mark.parametrize("cost", ["macs", "params"])
def test_the_share_of_a_cost_is_met_within_the_band(task, cost):
    result = run(task, **{cost: 0.5})
    assert result.after[cost] == pytest.approx(0.5 * result.before[cost], rel=0.02)


def test_the_cost_is_met_without_trying_shares(task, monkeypatch):
    def never(*_):
        raise AssertionError("shares were tried")

    monkeypatch.setattr("secateur.engine.decide.fitted", never)
    assert run(task, macs=0.5).keep.sparsity > 0


def test_a_ratio_that_is_asked_for_is_come_near(task):
    ratios = [(r := run(task, macs=0.5, ratio=ratio, samples=6).after)["macs"] / r["params"] for ratio in (8.0, 20.0)]
    assert ratios[0] < ratios[1]


def test_the_filters_with_the_largest_norms_stay(task):
    model = net()
    norms = model.conv1.weight.detach().abs().sum((1, 2, 3))
    keep = run(task, macs=0.5).keep["conv1"]
    assert norms[keep].min() >= norms[~keep].max()


def test_it_recalibrates_and_trains_only_if_asked():
    parts = [[type(r).__name__ for r in registry.get("pruning-spaces").recipe(epochs=e).recovery] for e in (0, 2)]
    assert parts == [["RecalibrateBN"], ["FineTune", "RecalibrateBN"]]
