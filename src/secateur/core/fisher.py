"""What gradients of single samples tell: the diagonal of the Fisher information, as it is estimated from data."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .space import Group
from .stats import State, Statistic, summed


@dataclass(frozen=True)
class SampleBackward:
    """The loss of one sample alone was differentiated: the gradient of the group's tensor, in its own shape."""

    gradient: Float[Tensor, "..."]


@dataclass(frozen=True)
class DiagonalFisher(Statistic):
    """F = 1/N sum_n g_n^2, g_n the gradient of sample n's own loss. Shape: the tensor's own; float32.

    Squares do not cancel, so it is not the square of the gradient of the mean loss. It takes a pass for each sample.
    """

    on = SampleBackward

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "samples": torch.zeros(())}

    def update(self, state: State, event: Any) -> State:
        assert isinstance(event, SampleBackward)
        squares = event.gradient.detach().float().square()
        return {"sum": state["sum"].to(squares.device) + squares, "samples": state["samples"] + 1}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        return state["sum"] / state["samples"].to(state["sum"].device)
