"""Probe: coverage-centric selection. A budget refines the space by strata of the scores; units are samples."""

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

import secateur as sc
from secateur.core import Budget, RandomPick, Score, kept_count


@dataclass(frozen=True)
class Known(Score):
    """Scores that a proxy run left: higher = easier (accumulated margin)."""

    values: tuple[float, ...]

    def __call__(self, group, stats):
        return torch.tensor(self.values, dtype=torch.float64)


def stratum_counts(sizes, budget):
    """Fill strata from the smallest: each gets an equal part of what is left, at most its size."""
    counts = [0] * len(sizes)
    order = sorted(range(len(sizes)), key=lambda i: sizes[i])
    for done, i in enumerate(order):
        counts[i] = min(sizes[i], budget // (len(order) - done))
        budget -= counts[i]
    return counts


@dataclass(frozen=True)
class Strata(Budget):
    """Drop the hardest share `cutoff`, split the rest of the score range into equal-width strata, fill them alike."""

    strata: int = 50
    cutoff: float = 0.0

    def allocate(self, space, evidence, target):
        (group,) = space
        score = evidence.scores[group.name]
        stay = kept_count(target.sparsity, group.size)
        hardest = math.floor(self.cutoff * group.size)
        admitted = score.argsort(stable=True)[hardest:]
        low, high = score[admitted].min(), score[admitted].max()
        width = (high - low) * (1 + 1e-9) / self.strata
        number = ((score[admitted] - low) / width).long().clamp(max=self.strata - 1)
        parts = {f"stratum {i}": admitted[number == i] for i in range(self.strata) if (number == i).any()}
        counts = stratum_counts([len(p) for p in parts.values()], stay)
        return space.refined({group.name: parts}), {
            f"{group.name}/{name}": c for name, c in zip(parts, counts, strict=True)
        }


def select(scores, keep, strata=5, cutoff=0.0, seed=0):
    data = TensorDataset(torch.arange(len(scores)))
    recipe = sc.Recipe(
        structure=sc.structures.Samples(),
        score=Known(tuple(scores)),
        budget=Strata(strata, cutoff),
        select=RandomPick(),
    )
    return sc.prune(data, recipe, keep=keep, seed=seed)


@given(st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=20, max_size=120, unique=True), st.integers(0, 9))
def test_exactly_the_asked_share_of_the_original_size_stays(scores, seed):
    result = select(scores, keep=0.25, cutoff=0.1, seed=seed)
    assert len(result.subject) == kept_count(0.75, len(scores))


def test_the_hardest_go_first_and_thin_strata_are_kept_whole():
    scores = [-9.0, -8.0, *[i / 100 for i in range(90)], *[10.0 + i for i in range(8)]]
    result = select(scores, keep=0.3, strata=5, cutoff=0.02)
    kept = {int(i) for (i,) in result.subject}
    assert not kept & {0, 1}  # the two hardest
    assert kept >= set(range(92, 100))  # eight easy samples in thin strata, all of them
    assert len(kept) == 30


def test_equal_width_strata_are_not_quantiles():
    scores = [*([0.0] * 5), *[1 + i * 1e-4 for i in range(95)]]
    kept = {int(i) for (i,) in select(scores, keep=0.1, strata=2).subject}
    assert len(kept & set(range(5))) == 5  # quantile strata would take about half of one of them


def test_two_seeds_draw_differently_inside_the_strata_and_one_seed_alike():
    scores = [i / 100 for i in range(100)]
    assert select(scores, 0.2, seed=1).keep == select(scores, 0.2, seed=1).keep
    assert select(scores, 0.2, seed=1).keep != select(scores, 0.2, seed=2).keep


def test_a_keep_outside_its_range_is_an_error():
    with pytest.raises(sc.RecipeError, match=r"\(0, 1\]"):
        select([1.0, 2.0], keep=1.5)
