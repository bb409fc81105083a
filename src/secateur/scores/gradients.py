"""Scores that read the gradient of the loss."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from secateur.core import Gradient, Group, Score, Stats


def gradient_magnitude(
    weight: Float[Tensor, "out in"],  # noqa: ARG001
    gradient: Float[Tensor, "out in"],
) -> Float[Tensor, "out in"]:
    """|g|: how fast the loss moves with the weight."""
    return gradient.abs()


def taylor(weight: Float[Tensor, "out in"], gradient: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """|w g|: the first-order change of the loss when the weight is set to zero.

    Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equation 8 (before squaring).
    """
    return (weight * gradient).abs()


@dataclass(frozen=True)
class GradientMagnitude(Score):
    """|g| of the mean loss over the task's batches: signed gradients are averaged first."""

    @property
    def needs(self) -> tuple[Gradient, ...]:
        return (Gradient(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return group.pool(gradient_magnitude, stats[group, Gradient()])


@dataclass(frozen=True)
class Taylor(Score):
    """|w g| of the mean loss over the task's batches: signed gradients are averaged first."""

    @property
    def needs(self) -> tuple[Gradient, ...]:
        return (Gradient(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return group.pool(taylor, stats[group, Gradient()])
