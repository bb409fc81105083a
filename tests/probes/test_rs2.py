"""Probe: repeated random sampling. A schedule emits a new keep every epoch, which drives the sampler."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import secateur as sc
from secateur.core import Kind, Move, Schedule, Score, count


@dataclass(frozen=True)
class Turn(Score):
    """1 for the samples whose turn it is: consecutive chunks of a stream of permutations."""

    epoch: int
    chunk: int

    def __call__(self, group, stats):
        n, first = group.size, self.epoch * self.chunk
        score = torch.zeros(n)
        for at in range(first, first + self.chunk):
            order = torch.randperm(n, generator=stats.rng(group, f"permutation {at // n}"))
            score[order[at % n]] = 1
        return score


@dataclass(frozen=True)
class EveryEpoch(Schedule):
    """All samples compete anew at the start of each epoch; no scores, no labels."""

    samples: int

    def moves(self, clock, target) -> Iterable[Move]:
        if clock.step < clock.total and clock.step % clock.epoch_steps == 0:
            chunk = self.samples - count(target.sparsity, self.samples)
            yield Move(Kind.REDRAW, target.sparsity, score=Turn(clock.step // clock.epoch_steps, chunk))


def sampled(n, keep, epochs, seed=0):
    """Sample ids of every epoch, as the training loop sees them."""
    data = TensorDataset(torch.arange(n).float()[:, None], torch.zeros(n, dtype=torch.long))
    task = sc.Task(train=data, test=data, batch_size=5, seed=seed)
    steps = math.ceil(round(keep * n) / 5)
    recipe = sc.Recipe(structure=sc.structures.Samples(), score=sc.scores.Random(), schedule=EveryEpoch(n))
    pruner = sc.Pruner(
        data, recipe, total_steps=epochs * steps, epoch_steps=steps, sparsity=round(1 - keep, 6), seed=seed
    )
    model = nn.Linear(1, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    seen = []
    for epoch in range(epochs):
        ids = []
        for x, y in task.batches("train", epoch=epoch, keep=pruner.keep["samples"]):
            nn.functional.cross_entropy(model(x / n), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            ids += x.flatten().int().tolist()
            pruner.step()
        seen.append(ids)
    return seen


def test_every_epoch_has_exactly_its_share_and_no_repeats():
    for ids in sampled(n=40, keep=0.25, epochs=6):
        assert len(ids) == len(set(ids)) == 10


@pytest.mark.parametrize("n", [40, 42])
def test_after_one_turn_every_sample_was_seen(n):
    epochs = math.ceil(1 / 0.25) + (n % 4 > 0)
    assert {i for ids in sampled(n, 0.25, epochs) for i in ids} == set(range(n))


def test_counts_never_differ_by_more_than_one_when_chunks_divide_the_data():
    counts = Counter(i for ids in sampled(n=40, keep=0.25, epochs=6) for i in ids)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_the_order_of_chunks_changes_from_turn_to_turn():
    seen = sampled(n=40, keep=0.25, epochs=8)
    assert [set(ids) for ids in seen[:4]] != [set(ids) for ids in seen[4:]]


def test_the_same_seed_gives_the_same_epochs_and_another_seed_others():
    assert sampled(40, 0.25, 3, seed=1) == sampled(40, 0.25, 3, seed=1)
    assert sampled(40, 0.25, 3, seed=1) != sampled(40, 0.25, 3, seed=2)
