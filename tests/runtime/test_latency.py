"""Latency: one model against another."""

import pytest
import torch
from torch import nn

from secateur.runtime import compare_latency


def stack(layers, width=128):
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))


def test_a_model_that_does_twenty_times_the_work_takes_longer():
    found = compare_latency(stack(1), stack(20), torch.randn(64, 128), pairs=7, repeats=3)
    assert found.ratio > 1 and found.second_ms > found.first_ms > 0 and found.pairs == 7


def test_the_mode_of_every_module_is_put_back():
    first, second = nn.Sequential(nn.Linear(2, 2), nn.Dropout()), nn.Linear(2, 2).eval()
    first[1].eval()
    compare_latency(first, second, torch.randn(1, 2), pairs=1, repeats=1)
    assert [first.training, first[0].training, first[1].training, second.training] == [True, True, False, False]


def test_models_are_measured_in_eval_mode_without_gradients():
    seen = set()

    class Watched(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            seen.add((self.training, y.requires_grad))
            return y

    compare_latency(Watched(2, 2), nn.Linear(2, 2), torch.randn(1, 2), pairs=1, repeats=1)
    assert seen == {(False, False)}


def test_modes_are_put_back_after_an_error():
    first, second = nn.Linear(2, 2), nn.Linear(3, 3)
    with pytest.raises(RuntimeError):
        compare_latency(first, second, torch.randn(1, 2), pairs=1, repeats=1)
    assert first.training and second.training
