"""Magnitude: the size of a weight."""

from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, Score, Stats


def magnitude(weight: Float[Tensor, "out in"], p: float = 1) -> Float[Tensor, "out in"]:
    """|W_ij|^p."""
    return weight.abs() if p == 1 else weight.abs() ** p


@dataclass(frozen=True)
class Magnitude(Score):
    """|W|^p, summed over the weights of a unit: the L1 norm of a block, or the square of its L2 norm."""

    p: float = 1

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return group.pool(partial(magnitude, p=self.p))
