"""Language tasks: windows, the loss, perplexity."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import Training
from secateur.tasks.language import Perplexity, Windows, language_task, next_token_loss, random_windows
from secateur.tasks.models import WordLSTM


@given(st.integers(0, 40), st.integers(1, 7))
def test_windows_do_not_overlap_and_drop_the_remainder(n, length):
    windows = Windows(torch.arange(n), length)
    assert len(windows) == n // length
    assert windows.ids.flatten().tolist() == list(range(n // length * length))


@given(st.integers(5, 30), st.integers(1, 5), st.integers(1, 9), st.integers(0, 99))
def test_random_windows_are_stretches_of_the_text(n, length, count, seed):
    windows = random_windows(torch.arange(n), length, count, seed)
    assert len(windows) == count
    assert all((w.diff() == 1).all() for w in windows.ids)


def test_the_loss_predicts_each_token_from_those_before_it():
    ids = torch.tensor([[2, 0, 1]])
    logits = torch.zeros(1, 3, 3)
    logits[0, 0, 0] = logits[0, 1, 1] = 50.0  # after 2 comes 0, after 0 comes 1
    assert float(next_token_loss(logits, ids)) == pytest.approx(0, abs=1e-6)


def test_uniform_predictions_have_the_perplexity_of_the_vocabulary():
    metric = Perplexity()
    for size in (1, 4):
        metric.update(torch.zeros(size, 5, 7), torch.randint(7, (size, 5)))
    assert metric.compute() == pytest.approx(7, rel=1e-5)


def test_an_overflowing_perplexity_is_infinite():
    metric = Perplexity()
    metric.update(torch.tensor([[[1e4, 0.0], [0.0, 0.0]]]), torch.tensor([[0, 1]]))
    assert metric.compute() == math.inf


def test_perplexity_is_exp_of_the_loss_for_equal_windows():
    ids = torch.randint(9, (60,), generator=torch.Generator().manual_seed(0))
    task = language_task(Windows(ids, 6), Windows(ids, 6), "toy", Training(), batch_size=3)
    measured = task.evaluate(WordLSTM(9, 4))
    assert measured["perplexity"] == pytest.approx(math.exp(measured["loss"]), rel=1e-4)
