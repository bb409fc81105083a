"""Scores that read the gradient of the loss."""

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from secateur.core import DiagonalFisher, Gradient, Group, RecipeError, Score, Statistic, Stats, nearest

Form = Literal["param_first", "param_second", "param_mix", "vectorize"]


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


def taylor_second(weight: Float[Tensor, "out in"], fisher: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """w F w: twice the second-order change, the Fisher diagonal in the place of the Hessian's."""
    return weight * fisher * weight


def taylor_mix(
    weight: Float[Tensor, "out in"], gradient: Float[Tensor, "out in"], fisher: Float[Tensor, "out in"]
) -> Float[Tensor, "out in"]:
    """|g w - w F w / 2|: both orders. Ma et al., "LLM-Pruner", NeurIPS 2023, equation 5."""
    return (weight * gradient - 0.5 * taylor_second(weight, fisher)).abs()


def signed_change(weight: Float[Tensor, "out in"], gradient: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """g w, which cancels where it is summed before its absolute value is taken."""
    return weight * gradient


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
    """What the loss changes by when weights are set to zero, from the mean loss over the task's batches.

    Attributes:
        form: of each weight, summed over a unit: "param_first", |g w| with the signed gradient of the mean loss;
            "param_second", w F w with F the mean of the squared gradients of single samples; "param_mix",
            |g w - w F w / 2|. Or "vectorize", |sum g w| over each unit: of a coupled one over each row or column.

    Raises:
        RecipeError: an unknown form.
    """

    form: Form = "param_first"

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            what, mend = f"there is no form {self.form!r}", nearest(self.form, get_args(Form))
            raise RecipeError(what, where="Taylor(form=...)", mend=mend)

    @property
    def needs(self) -> tuple[Statistic, ...]:
        first, second = (Gradient(),), (DiagonalFisher(),)
        return {"param_second": second, "param_mix": (*first, *second)}.get(self.form, first)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        seen = [stats[group, statistic] for statistic in self.needs]
        match self.form:
            case "param_second":
                return group.pool(taylor_second, *seen)
            case "param_mix":
                return group.pool(taylor_mix, *seen)
            case "vectorize":
                return group.pool(signed_change, *seen).abs()
        return group.pool(taylor, *seen)
