"""Scores of whole layers: any score of weights, over all the weights of a block or a sublayer."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, Score, Statistic, Stats

from .coupled import Coupled, Normalize, normalized


def reduced(sums: Float[Tensor, " tensors"], weights: int, reduce: Literal["mean", "sum"]) -> Float[Tensor, ""]:
    """One number for a unit, from the sums over its tensors and the number of all their weights."""
    return sums.sum() / weights if reduce == "mean" else sums.sum()


@dataclass(frozen=True)
class Whole(Score):
    """A score of weights, as its mean over the weights of each unit.

    A sum grows with the width of a stage, so that the first stages would always go first; the mean compares them.

    Attributes:
        score: of weights, `[out, in]` element by element.
        reduce: "mean", or "sum" for units of one size.
        normalize: how the scores of a group are scaled, so that groups compete.
    """

    score: Score
    reduce: Literal["mean", "sum"] = "mean"
    normalize: Normalize = "none"

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return self.score.needs

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        if not group.inside:
            return self.score(group, stats)
        values = []
        for unit in group.inside:
            sums = [self.score(leaf, stats).sum(dtype=torch.float64).cpu() for leaf in unit]
            values.append(reduced(torch.stack(sums), sum(leaf.size for leaf in unit), self.reduce))
        return normalized(torch.stack(values), self.normalize)


def of_units(score: Score, group: Group | None = None) -> Score:
    """A score that can be asked about units of several tensors: itself if it knows them, else with the usual settings.

    Args:
        group: whose units they are; coupled ones, where it is not given.
    """
    if group is not None and group.inside:
        return score if getattr(score, "knows_whole", False) or isinstance(score, Whole) else Whole(score)
    return score if getattr(score, "knows_coupled", False) or isinstance(score, Coupled) else Coupled(score)
