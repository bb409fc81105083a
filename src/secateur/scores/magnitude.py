"""Magnitude: the size of a weight."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, Score, Stats


def magnitude(weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """|W_ij|."""
    return weight.abs()


@dataclass(frozen=True)
class Magnitude(Score):
    """|W|, summed over the weights of a unit (the L1 norm of a block)."""

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return group.pool(magnitude)
