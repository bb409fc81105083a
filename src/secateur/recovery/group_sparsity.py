r"""Group-norm sparse training (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, equation 5).

While the network trains, every slice w of a coupled unit k is pulled to zero, the less important units harder:

    grad(w) += reg * gamma_k * w,     gamma_k = alpha^((max I - I_k) / (max I - min I)),     alpha = 2^4

I_k is the square root of the unit's score. gamma lies in [1, alpha]. A unit that will be cut is near zero before it is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, RecipeError, Score, Space, Stats, Structure

from .sparse_training import SparseTraining, along


def growth(importance: Float[Tensor, " units"], alpha: float) -> Float[Tensor, " units"]:
    """gamma_k: 1 for the most important unit, alpha for the least; 1 for all where none is more important."""
    span = importance.amax() - importance.amin()
    # the official code skips a group of equal units, because it divides by zero there
    return alpha ** ((importance.amax() - importance) / span) if span > 0 else torch.ones_like(importance)


@dataclass(frozen=True)
class GroupSparsity(SparseTraining):
    """Weight decay of coupled units in the first epochs of a training, up to `alpha` times stronger for weak units.

    Attributes:
        structure: finds the units, anew in each epoch.
        score: of units, without data; its square root is their importance.
        epochs: how long it acts; a schedule that cuts then finds units near zero.
        reg: the decay of the most important unit of each group.
        alpha: how many times stronger it is for the least important one.
    """

    structure: Structure
    score: Score
    epochs: float
    reg: float = 1e-4
    alpha: float = 16.0

    def __post_init__(self) -> None:
        if not (self.epochs >= 0 and self.reg >= 0 and self.alpha >= 1):
            raise RecipeError(
                f"epochs, reg and alpha are {self.epochs}, {self.reg} and {self.alpha}",
                where="GroupSparsity(epochs, reg, alpha)",
                mend="none is negative, and alpha is 1 or more: the paper takes reg=1e-4, alpha=16",
            )
        if self.score.needs:
            raise RecipeError(
                f"{type(self.score).__name__} reads data, and this score is asked at every step",
                where="GroupSparsity(score=...)",
                mend="use a score of weights alone, such as Coupled(Magnitude(2))",
            )

    def pull_(self, space: Space, progress: float) -> None:
        for group in space:
            self._shrink_(group)

    def _shrink_(self, group: Group) -> None:
        importance = self.score(group, Stats()).clamp_min(0).sqrt()
        strength = self.reg * growth(importance, self.alpha)
        for member in group.members:
            weight = member.tensor
            if member.is_parameter and not member.is_bias and weight.grad is not None:
                weight.grad += (along(strength, member) * weight).to(weight.grad.dtype)
