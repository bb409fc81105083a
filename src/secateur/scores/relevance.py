"""Relevance of units: how much of the decision for the right class went through them (Yeom et al., 2021)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, RecipeError, Rules, Score, Stats, UnitRelevance


def share(relevance: Float[Tensor, " out"]) -> Float[Tensor, " out"]:
    """Relevance as a share of what reached the whole layer, so that layers compare."""
    total = relevance.sum().abs().clamp_min(torch.finfo(relevance.dtype).tiny)
    return relevance / total


@dataclass(frozen=True)
class LRP(Score):
    """Layer-wise relevance of the outputs of a layer, from a few reference samples of each class.

    Attributes:
        rules: how relevance goes back.
        absolute: whether what speaks strongly against the class counts like what speaks for it.
    """

    rules: Rules = Rules()
    absolute: bool = False

    @property
    def needs(self) -> tuple[UnitRelevance, ...]:
        return (UnitRelevance(self.rules),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        if group.kind != "slices":
            raise RecipeError(
                "relevance is known of units, not of single weights",
                where=f"LRP on group {group.name!r}",
                mend="use a structure of units, such as Channels, or a score of weights",
            )
        found = share(stats[group, UnitRelevance(self.rules)])
        return (found.abs() if self.absolute else found).reshape(group.shape)
