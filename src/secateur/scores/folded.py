"""The norm of a filter together with its batch norm: what a channel's weights really amount to."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, RecipeError, Score, Stats
from secateur.core.folding import folded_filters, makers


def folded_norm(filters: Float[Tensor, "units features"]) -> Float[Tensor, " units"]:
    """||gamma/sigma W||_2 of each unit."""
    norms: Tensor = torch.linalg.vector_norm(filters, dim=1)
    return norms


@dataclass(frozen=True)
class FoldedNorm(Score):
    """L2 norm of the weights that make a unit, after their batch norm is folded in; needs no data."""

    knows_coupled = True

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        if not makers(group):
            raise RecipeError(
                "no weight makes its units, so there is no filter to measure",
                where=f"FoldedNorm on group {group.name!r}",
                mend=f"exclude=[{group.name!r}]",
            )
        return folded_norm(folded_filters(group))
