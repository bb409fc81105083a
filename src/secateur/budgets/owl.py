"""OWL: blocks with more outliers keep more (Yin et al., "Outlier Weighed Layerwise Sparsity", 2024, section 3.2)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secateur.core import (
    Budget,
    Counts,
    Group,
    InputNorm,
    RecipeError,
    Space,
    Statistic,
    Stats,
    Target,
    fit_count,
    kept_count,
)
from secateur.core.second_moments import along_inputs

from .uniform import by_rows

_MOST = 0.99


def densities(
    outliers: Float[Tensor, " blocks"], sizes: Float[Tensor, " blocks"], sparsity: float, width: float
) -> Float[Tensor, " blocks"]:
    """The share that stays of each block: the more outliers the more, at most `2 * width` apart.

    Args:
        outliers: share of outliers of each block.
        sizes: weights of each block; the mean over weights is exactly 1 - sparsity.
    """
    weight = sizes / sizes.sum()
    span = outliers.max() - outliers.min()
    r = (outliers - outliers.min()) / span * 2 * width if span > 0 else torch.zeros_like(outliers)
    found: Tensor = r - (weight * r).sum() + 1 - sparsity
    for _ in range(len(found)):  # what a bound takes from one is shared by those that still have room
        clipped = found.clamp(1 - _MOST, 1)
        short = 1 - sparsity - (weight * clipped).sum()
        free = (clipped < 1) if short > 0 else (clipped > 1 - _MOST)
        if short.abs() < 1e-12 or not free.any():
            return clipped
        found = torch.where(free, clipped + short / (weight * free).sum(), clipped)
    return found.clamp(1 - _MOST, 1)


def whole(wanted: Float[Tensor, " blocks"], sizes: Float[Tensor, " blocks"], most: int) -> Int[Tensor, " blocks"]:
    """Whole numbers from 1 to `most` whose mean over weights is that of `wanted`, as nearly as blocks allow.

    Each is rounded down, and those that lose most by it are rounded up instead until the mean is reached.
    """
    weight = sizes / sizes.sum()
    found = wanted.floor().long().clamp(1, most)
    short = float((weight * (wanted - found)).sum())
    step = 1 if short > 0 else -1
    for at in (step * (wanted - found)).argsort(descending=True, stable=True).tolist():
        moved = int(found[at]) + step
        if step * short > weight[at] / 2 and 1 <= moved <= most:
            found[at] = moved
            short -= step * float(weight[at])
    return found


@dataclass(frozen=True)
class OutlierShare(InputNorm):
    """The share of outliers in the block that a group lies in, where it was counted before: a scalar."""

    m: float = 5.0


@dataclass(frozen=True)
class OWL(Budget):
    """All matrices of a block lose the same share; blocks with more outliers among |W| ||X|| lose less.

    Blocks are the sections of the space; a group that lies in none is a block of its own. Rows of a matrix lose equal
    shares, as Wanda has it; N:M patterns keep their M, and blocks of more outliers get a larger N, so that the mean
    stays what it is.

    Attributes:
        m: an outlier is more than m times the mean of its block.
        width: how far the share that goes may lie from the mean (the paper's lambda).
        per: "row", or "group" for units that compete over the whole matrix.
    """

    m: float = 5.0
    width: float = 0.08
    per: str = "row"

    def __post_init__(self) -> None:
        if not self.m > 0 or not self.width >= 0 or self.per not in ("row", "group"):
            raise RecipeError(
                f"m is {self.m}, width {self.width}, per {self.per!r}",
                where="OWL(...)",
                mend='m=5, width=0.08, per="row" or "group"',
            )

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return (InputNorm(),)

    @property
    def needs_scores(self) -> bool:
        return False

    @property
    def by_blocks(self) -> bool:
        return True

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        blocks: dict[str, list[Group]] = {}
        for group in space:
            blocks.setdefault(group.section or group.name, []).append(group)
        outliers = torch.tensor([self._outliers(groups, evidence) for groups in blocks.values()], dtype=torch.float64)
        sizes = torch.tensor([float(sum(g.size for g in groups)) for groups in blocks.values()], dtype=torch.float64)
        shares = densities(outliers, sizes, target.sparsity, self.width)
        if (first := space.groups[0]).exact is not None:  # of a pattern, whose M is that of all groups
            shares = whole(shares * first.lane, sizes, first.lane) / first.lane
        density = {g.name: float(d) for groups, d in zip(blocks.values(), shares, strict=True) for g in groups}
        refined = [self._laned(g, density[g.name]) for g in space]
        counts = {g.name: fit_count(g, kept_count(round(1 - density[g.name], 12), g.lane)) for g in refined}
        return Space(tuple(refined), space.skipped, space.totals), counts

    def _laned(self, group: Group, density: float) -> Group:
        if group.exact is not None:
            return replace(group, exact=round(density * group.lane))
        return by_rows(group) if self.per == "row" else group

    def digest(self, groups: Space, evidence: Stats) -> Mapping[tuple[str, Statistic], Tensor]:
        share = torch.tensor(self._outliers(list(groups), evidence), dtype=torch.float64)
        return {(g.name, OutlierShare(self.m)): share for g in groups}

    def _outliers(self, groups: list[Group], evidence: Stats) -> float:
        """Share of a block's weights that are more than m times the mean of its |W| ||X||."""
        known = evidence.values.get((groups[0].name, OutlierShare(self.m)))
        if known is not None:
            return float(known)
        scores = [_sizes(g, evidence) for g in groups]
        mean = sum(float(s.sum(dtype=torch.float64)) for s in scores) / sum(s.numel() for s in scores)
        return sum(int((s > self.m * mean).sum()) for s in scores) / sum(s.numel() for s in scores)


def _sizes(group: Group, evidence: Stats) -> Tensor:
    return group.pool(lambda w, n: w.abs() * n, along_inputs(group, evidence[group, InputNorm()].sqrt().float()))
