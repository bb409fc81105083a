r"""Beta-Rank: filters as standardised regression coefficients (Homayounfar et al., 2023).

A filter f makes y = f x. With x and y standardised, its coefficients are f sigma_x / sigma_y; the released code, from
which the published figures are, multiplies by the inverse instead. Summed over all positions p of the output:

    f'_k = |f_k| sum_p a_k(p) / b(p),     a_k(p) = std over samples of y_k(p),   b(p) = std of all that f sees at p
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Event, Forward, Group, RecipeError, Score, State, Statistic, Stats, summed

Ratio = Literal["out/in", "in/out"]
_ROUND_OFF = 1e-12  # of the mean square: a variance below it is that of a constant


def beta_rank(weight: Float[Tensor, "out in"], ratio: Float[Tensor, "out 1"]) -> Float[Tensor, "out in"]:
    """|f| times how much more the output spreads than the input, or the inverse."""
    return weight.abs() * ratio


def spread_ratio(
    outputs: Float[Tensor, "positions out"], inputs: Float[Tensor, " positions"], ratio: Ratio
) -> Float[Tensor, " out"]:
    """sum_p a(p) / b(p) of standard deviations, or the inverse; positions that would divide by zero add nothing."""
    b = inputs[:, None].expand_as(outputs)
    above, below = (outputs, b) if ratio == "out/in" else (b, outputs)
    return torch.where(below > 0, above / below, torch.zeros_like(above)).sum(0)


def spread(total: Tensor, squares: Tensor, count: Tensor) -> Tensor:
    """The standard deviation (n - 1) of `count` numbers, from their sum and the sum of their squares."""
    mean_square = squares / count
    variance = mean_square - (total / count).square()
    variance = torch.where(variance > _ROUND_OFF * mean_square, variance, torch.zeros_like(variance))
    return (variance * count / (count - 1)).sqrt()


@dataclass(frozen=True)
class SpreadRatio(Statistic):
    """`spread_ratio` of a layer over all batches, by running sums in float64: `[out]`.

    Attributes:
        ratio: "out/in" as the released code, "in/out" as the published equation.
    """

    ratio: Ratio = "out/in"

    on = Forward

    def zero(self, group: Group) -> State:
        return {name: torch.zeros(()) for name in ("x", "xx", "y", "yy", "width", "samples")}

    def update(self, state: State, event: Event) -> State:
        assert isinstance(event, Forward)
        x, y = (t.detach().double() for t in (event.inputs, event.outputs))
        x, y = (t.reshape(event.samples, -1, t.shape[1]) for t in (x, y))
        sums = {"x": x.sum((0, 2)), "xx": x.square().sum((0, 2)), "y": y.sum(0), "yy": y.square().sum(0)}
        found = {name: state[name].to(x.device) + part for name, part in sums.items()}
        return {**found, "width": torch.tensor(x.shape[2]), "samples": state["samples"] + len(x)}

    def merge(self, a: State, b: State) -> State:
        return {**summed(a, b), "width": torch.maximum(a["width"], b["width"])}

    def value(self, state: State) -> Tensor:
        samples = state["samples"].to(state["y"].device)
        if samples < 2:
            raise RecipeError(
                f"the spread over {int(samples)} sample is undefined: it needs >= 2 samples",
                where="BetaRank()",
                mend="a larger batch_size= of the task, or more batches=",
            )
        inputs = spread(state["x"], state["xx"], samples * state["width"].to(samples.device))
        return spread_ratio(spread(state["y"], state["yy"], samples), inputs, self.ratio)


@dataclass(frozen=True)
class BetaRank(Score):
    """|f| of every weight, times the sum over positions of how its filter's outputs spread against its inputs."""

    ratio: Ratio = "out/in"

    @property
    def needs(self) -> tuple[SpreadRatio, ...]:
        return (SpreadRatio(self.ratio),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return group.pool(beta_rank, stats[group, SpreadRatio(self.ratio)][:, None])
