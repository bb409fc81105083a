"""Which units stay: exact counts, ties by (score, index), never a bare threshold.

A threshold alone removes too much as soon as scores repeat (all-zero layers, 16-bit weights, constant scores), so
every choice here is by rank: the units that go are the first `n - count` in the order of (score, flat index).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

_CHUNK = 1 << 20
_SMALL = 1 << 16
_AT_ONCE = 1 << 18
"""Scores of lanes that are ranked at once: what ranking needs for each is five times as large as they are."""


@runtime_checkable
class Select(Protocol):
    """Chooses which units of a lane stay, given how many."""

    def __call__(
        self, score: Float[Tensor, "*lanes units"], count: int, rng: Generator
    ) -> Bool[Tensor, "*lanes units"]:
        """True for the `count` units that stay, in every lane (all dimensions but the last)."""
        ...


@dataclass(frozen=True)
class TopK(Select):
    """Keeps the `count` highest scores of each lane; among equal scores the first indices go first."""

    def __call__(
        self,
        score: Float[Tensor, "*lanes units"],
        count: int,
        rng: Generator,
    ) -> Bool[Tensor, "*lanes units"]:
        score = score.detach()
        lanes = score.numel() // max(score.shape[-1], 1)
        drop = score.shape[-1] - count
        if lanes == 1:
            value, ties = boundary([score], drop)
            return drop_below(score, value, ties)
        return _top_of_lanes(score, drop)


@dataclass(frozen=True)
class RandomPick(Select):
    """Keeps `count` units of each lane, drawn uniformly; the scores only say how many there are."""

    def __call__(
        self, score: Float[Tensor, "*lanes units"], count: int, rng: Generator
    ) -> Bool[Tensor, "*lanes units"]:
        score = score.detach()
        draw = torch.rand(score.shape, generator=rng, dtype=torch.float64).to(score.device)
        draw = torch.where(score == -torch.inf, -1.0, draw)  # what is gone stays gone
        draw = torch.where(score == torch.inf, 2.0, draw)  # what must stay stays
        return TopK()(draw, count, rng)


def _top_of_lanes(score: Tensor, drop: int) -> Tensor:
    if drop <= 0:
        return torch.ones_like(score, dtype=torch.bool)
    if drop >= score.shape[-1]:
        return torch.zeros_like(score, dtype=torch.bool)
    if score.is_cuda:
        return _top_of_few(score, drop)
    lanes = score.reshape(-1, score.shape[-1])
    few = torch.split(lanes, max(_AT_ONCE // lanes.shape[1], 1))
    return torch.cat([_top_of_few(part, drop) for part in few]).view(score.shape)


def _top_of_few(score: Tensor, drop: int) -> Tensor:
    value = _lowest(score, drop)
    below, tied = score < value, score == value
    missing = drop - below.sum(-1, keepdim=True)
    if torch.equal(tied.sum(-1, keepdim=True), missing):
        return ~(below | tied)
    return ~(below | (tied & (tied.cumsum(-1) <= missing)))


def _lowest(score: Float[Tensor, "*lanes units"], k: int) -> Float[Tensor, "*lanes one"]:
    """The k-th lowest of each lane; NumPy partitions eight times as fast as `kthvalue` where vectors are wide."""
    if score.device.type != "cpu":
        return score.kthvalue(k, dim=-1, keepdim=True).values
    return torch.from_numpy(np.partition(score.detach().numpy(), k - 1, axis=-1)[..., k - 1 : k])


def drop_below(score: Tensor, value: float, ties: int) -> Tensor:
    """The keep of one group, once the boundary is known: lower scores go, and the first `ties` equal ones."""
    keep = score > value
    tied = (score == value).flatten().nonzero().flatten()
    keep.view(-1)[tied[ties:]] = True
    return keep


def boundary(scores: Sequence[Tensor], drop: int) -> tuple[float, int]:
    """Where the `drop` lowest of all scores end: the value of the last one that goes, and how many equal ones go.

    All scores below the value go, and of those equal to it the first `ties` in the order (tensor, flat index).
    Nothing is sorted and no concatenated copy is made: one histogram pass over the leading 16 bits of an
    order-preserving integer view finds the bucket, a second pass gathers only that bucket.

    Args:
        scores: float32 or float64 tensors without NaN, any shapes.
        drop: how many go, 0 to the number of scores.

    Returns:
        `(value, ties)`; `(-inf, 0)` when nothing goes.
    """
    total = sum(s.numel() for s in scores)
    assert 0 <= drop <= total, (drop, total)
    if drop == 0:
        return float("-inf"), 0
    if len({s.dtype for s in scores}) > 1:  # the bits of two types do not compare
        scores = [s.double() for s in scores]
    if total <= _SMALL:
        pool = torch.cat([s.reshape(-1) for s in scores])
        below = 0
    else:
        pool, below = _bucket(scores, drop)
    value = _lowest(pool, drop - below)
    return float(value), drop - below - int((pool < value).sum())


def _bucket(scores: Sequence[Tensor], drop: int) -> tuple[Tensor, int]:
    """The scores that share their leading 16 bits with the `drop`-th lowest, and how many lie below them."""
    histogram = torch.zeros(1 << 16, dtype=torch.int64)
    for part in _parts(scores):
        histogram += torch.bincount(_leading_bits(part), minlength=1 << 16).cpu()
    running = histogram.cumsum(0)
    bucket = int(torch.searchsorted(running, drop))
    below = int(running[bucket] - histogram[bucket])
    found = [part[_leading_bits(part) == bucket].cpu() for part in _parts(scores)]
    return torch.cat(found), below


def _parts(scores: Sequence[Tensor]) -> Iterable[Tensor]:
    for score in scores:
        yield from torch.split(score.reshape(-1), _CHUNK)


def _leading_bits(score: Tensor) -> Tensor:
    """The top 16 bits of an integer that orders as the floats do, shifted to 0 .. 65535."""
    score = score + 0.0  # -0.0 and 0.0 are one value, so they must be one key
    bits = score.view(torch.int32 if score.dtype == torch.float32 else torch.int64)
    width = 31 if score.dtype == torch.float32 else 63
    ordered = bits ^ ((bits >> width) & ((1 << width) - 1))
    return (ordered >> (width - 15)) + (1 << 15)
