"""Who may change places: shares of gone and kept, scores, lanes, the list of those who took part lately."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.core import RecipeError
from secateur.solvers.refining.candidates import Candidates


def draw(seed, n, lane=None, most=0.0):
    g = torch.Generator().manual_seed(seed)
    gone = torch.rand(n, generator=g) < 0.6
    return Candidates("w", gone, torch.ones(n, dtype=torch.bool), lane or n, most), torch.rand(n, generator=g)


@given(st.integers(0, 2**16), st.integers(2, 40), st.integers(2, 12))
@settings(deadline=None, max_examples=50)
def test_the_best_gone_and_the_worst_kept_are_taken(seed, n, size):
    mine, scores = draw(seed, n)
    block = mine.block(scores, size, None)
    gone, kept = mine.gone.nonzero().flatten().tolist(), (~mine.gone).nonzero().flatten().tolist()
    best = sorted(gone, key=lambda i: -float(scores[i]))[: size // 2]
    worst = sorted(kept, key=lambda i: float(scores[i]))[: size - size // 2]
    assert sorted(block.tolist()) == (sorted(best + worst) if best and worst else [])


@given(st.integers(0, 2**16), st.sampled_from([2, 4]), st.integers(2, 16))
@settings(deadline=None, max_examples=50)
def test_of_lanes_all_is_taken_where_a_gone_one_is_most_above_a_kept_one(seed, lane, size):
    mine, scores = draw(seed, 24, lane)
    block = mine.block(scores, size, None)
    gain = {}
    for at in range(0, 24, lane):
        gone = [float(scores[i]) for i in range(at, at + lane) if mine.gone[i]]
        kept = [float(scores[i]) for i in range(at, at + lane) if not mine.gone[i]]
        if gone and kept:
            gain[at] = max(gone) - min(kept)
    chosen = sorted(gain, key=lambda at: -gain[at])[: max(size // lane, 1)]
    assert block.tolist() == [i for at in sorted(chosen) for i in range(at, at + lane)]


def test_a_share_of_pruned_ones_is_asked_for_in_vain_where_there_are_fewer():
    mine = Candidates("fc.weight", torch.tensor([True, False, False, False]), torch.ones(4, dtype=torch.bool), 4)
    with pytest.raises(RecipeError, match=r"2 pruned units .* and 1 are pruned"):
        mine.block(torch.rand(4), 4, 2)
    assert len(mine.block(torch.rand(4), 4, None)) == 3


def test_fixed_shares_are_those_of_the_lowest_pruned_and_the_highest_kept():
    gone = torch.tensor([True, True, True, True, False, False, False, False])
    mine = Candidates("w", gone, torch.ones(8, dtype=torch.bool), 8)
    mine.fix(torch.arange(8.0), gone=0.5, kept=0.25)
    assert mine.free.tolist() == [False, False, True, True, True, True, True, False]


def test_who_took_part_lately_waits_unless_too_few_are_left():
    mine = Candidates("w", torch.arange(12) < 6, torch.ones(12, dtype=torch.bool), 12, most=0.5)
    scores = torch.arange(12.0)
    first = mine.block(scores, 4, None)
    mine.remember(first)
    second = mine.block(scores, 4, None)
    assert not set(first.tolist()) & set(second.tolist())
    mine.remember(second)
    assert len(mine.recent) == 6 and set(mine.recent) > set(second.tolist())
    assert sorted(mine.block(scores, 8, None).tolist()) == [2, 3, 4, 5, 6, 7, 8, 9]  # six are left, eight are wanted
