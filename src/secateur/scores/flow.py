r"""Scores of pruning at initialisation: what a weight does to the loss, and what it does to the flow of gradients.

With g the gradient of the mean loss over a few samples of each class and H its Hessian, without weight w

    SNIP:   the loss changes by about |g w|               (Lee, Ajanthan & Torr, ICLR 2019, equation 6)
    GraSP:  ||g||^2 changes by about -2 w (H g)           (Wang, Zhang & Grosse, ICLR 2020, equation 8)
    CroP:   ||g||^2 changes by about 2 |w (H g)|, either way   (Rachwan et al., ICML 2022)

GraSP removes the lowest w (H g), sign kept: there the gradient grows most, or shrinks least.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from secateur.core import Balanced, BalancedGradient, Group, HessianGradient, Score, Stats

from .gradients import taylor


def grasp(weight: Float[Tensor, "out in"], product: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """w (H g), of either sign; the official code's score is its negative, of which the highest go."""
    return weight * product


def crop(weight: Float[Tensor, "out in"], product: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """|w (H g)|."""
    return (weight * product).abs()


@dataclass(frozen=True)
class Snip(Score):
    """|g w| of the mean loss over a few samples of each class, with batch norms as in training."""

    samples: Balanced = Balanced()

    @property
    def needs(self) -> tuple[BalancedGradient, ...]:
        return (BalancedGradient(self.samples),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return group.pool(taylor, stats[group, BalancedGradient(self.samples)])


@dataclass(frozen=True)
class Grasp(Score):
    """w (H g) of the mean loss over a few samples of each class: low where removal lets the gradient grow.

    Logits are divided by 200 as in the official code, so that the loss of an untrained network is near linear in them.
    """

    samples: Balanced = Balanced(temperature=200.0)

    @property
    def needs(self) -> tuple[HessianGradient, ...]:
        return (HessianGradient(self.samples),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return group.pool(grasp, stats[group, HessianGradient(self.samples)])


@dataclass(frozen=True)
class Crop(Score):
    """|w (H g)| of the mean loss over a few samples of each class: low where removal leaves the gradient's norm."""

    samples: Balanced = Balanced()

    @property
    def needs(self) -> tuple[HessianGradient, ...]:
        return (HessianGradient(self.samples),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return group.pool(crop, stats[group, HessianGradient(self.samples)])
