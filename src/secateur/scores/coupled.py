"""Scores of coupled units: any score of weights, over every tensor that a channel or a head lies in."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, RecipeError, Score, Statistic, Stats

Over = Literal["mean", "sum", "max", "prod", "first"]
Normalize = Literal["none", "mean", "max", "sum", "min-max", "standard", "lamp"]


def combined(values: Float[Tensor, "members units"], over: Over) -> Float[Tensor, " units"]:
    """One score for each unit from those of its members."""
    match over:
        case "mean":
            return values.mean(0)
        case "sum":
            return values.sum(0)
        case "max":
            return values.amax(0)
        case "prod":
            return values.double().prod(0)  # of tiny numbers, which float32 would take for 0
    return values[0]


def normalized(score: Float[Tensor, " units"], how: Normalize) -> Float[Tensor, " units"]:
    """Scores of one group on a scale that others share; a group of equal scores stays finite.

    Mean, maximum and sum are those of magnitudes: scores such as GraSP's are of either sign, and keep it.
    """
    tiny = torch.finfo(score.dtype).tiny
    match how:
        case "mean":
            return score / score.abs().mean().clamp_min(tiny)
        case "max":
            return score / score.abs().amax().clamp_min(tiny)
        case "sum":
            return score / score.abs().sum().clamp_min(tiny)
        case "min-max":
            return (score - score.amin()) / (score.amax() - score.amin()).clamp_min(tiny)
        case "standard":
            return (score - score.mean()) / score.std(unbiased=False).clamp_min(tiny)
        case "lamp":
            order = score.argsort(stable=True)
            above = score[order].flip(0).cumsum(0).flip(0)
            return torch.empty_like(score).index_copy_(0, order, score[order] / above.clamp_min(tiny))
    return score


@dataclass(frozen=True)
class Coupled(Score):
    """A score of weights, summed over each slice that a unit owns, combined over the tensors that hold one.

    Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, section 3.3; Wang et al., "Structurally Prune
    Anything", 2024, section 3.2, with other choices of the same settings.

    Attributes:
        score: of weights, `[out, in]` element by element.
        over: how the members of a unit become one number.
        of_members: how the values of each member are scaled before that.
        normalize: how the scores of a group are scaled, so that groups compete.
        roles: which members count: any of "producer", "consumer", "carrier".
        biases: whether biases count as well.

    Raises:
        RecipeError: no member of a group counts.
    """

    score: Score
    over: Over = "mean"
    of_members: Normalize = "none"
    normalize: Normalize = "mean"
    roles: tuple[str, ...] = ("producer", "consumer", "carrier")
    biases: bool = False

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return self.score.needs

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        if not group.members:
            return self.score(group, stats)
        values = [
            normalized(self.score(m.group, stats).reshape(-1)[m.index].sum(1), self.of_members)
            for m in group.members
            if m.is_parameter and not m.roles.isdisjoint(self.roles) and (self.biases or not m.is_bias)
        ]
        if not values:
            raise RecipeError(
                "no tensor of it counts",
                where=f"Coupled(roles={self.roles}) on group {group.name!r}",
                mend="add roles, or count biases",
            )
        return normalized(combined(torch.stack(values), self.over), self.normalize)
