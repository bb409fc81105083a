r"""Wanda: the size of a weight times the size of what it is multiplied with (Sun et al., 2024, section 3).

    S_ij = |W_ij| ||X_j||_2

||X_j||_2 is over all tokens of the calibration data; here its square is the mean over samples of the sum over a
sample's tokens, which ranks alike.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, InputNorm, RecipeError, Score, Stats
from secateur.core.second_moments import along_inputs


def wanda(weight: Float[Tensor, "out in"], norms: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """|W_ij| ||X_j||_2."""
    return weight.abs() * norms


def cumulative(scores: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """For each score the share of its row's sum that is in it and in lower ones; equal ones count in their order."""
    ordered, order = scores.double().sort(dim=1, stable=True)
    shares = ordered.cumsum(1) / ordered.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.empty_like(shares).scatter_(1, order, shares)


@dataclass(frozen=True)
class Wanda(Score):
    """|W| ||X||, summed over the weights of a unit.

    Attributes:
        adaptive: rows lose different shares, the lowest scores up to the same share of each row's sum (the variant in
            the paper's appendix). Pair it with a budget whose units compete over the whole matrix: Uniform().
    """

    adaptive: bool = False

    @property
    def needs(self) -> tuple[InputNorm, ...]:
        return (InputNorm(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        norms = along_inputs(group, stats[group, InputNorm()].sqrt().float())
        scores = group.pool(wanda, norms)
        if not self.adaptive:
            return scores
        if group.exact is not None or group.lanes > 1:
            raise RecipeError(
                "rows cannot lose different shares where each lane keeps the same count",
                where=f"Wanda(adaptive=True), group {group.name!r}",
                mend="leave adaptive out for N:M",
            )
        return cumulative(scores)
