"""What whole layers do to the residual stream: how far it turns in one of them, or in several in a row."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .space import Group
from .stats import Ends, Event, Passed, State, Statistic, summed


def cosines(x: Float[Tensor, "tokens width"], y: Float[Tensor, "tokens width"]) -> Float[Tensor, " nonzero"]:
    """cos(x_t, y_t) of the tokens whose norms are not zero, in float64."""
    x, y = x.double(), y.double()
    norms = x.norm(dim=-1) * y.norm(dim=-1)
    found: Tensor = (x * y).sum(-1)[norms > 0] / norms[norms > 0]
    return found.clamp(-1, 1)


@dataclass(frozen=True)
class BlockInfluence(Statistic):
    """1 - mean over tokens of cos(stream before, stream after) for each layer: `[units]`.

    Tokens at which one of the two is zero do not count; a layer that saw no others has 1.
    """

    on = Passed

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "tokens": torch.zeros(())}

    def update(self, state: State, event: Event) -> State:
        assert isinstance(event, Passed)
        found = cosines(event.before, event.after)
        added = torch.zeros(2, event.units, dtype=torch.float64, device=found.device)
        added[0, event.unit], added[1, event.unit] = found.sum(), len(found)
        return {name: state[name].to(found.device) + row for name, row in zip(("sum", "tokens"), added, strict=True)}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        return 1 - state["sum"] / state["tokens"].clamp_min(1)


@dataclass(frozen=True)
class SpanAngle(Statistic):
    """arccos(cos)/pi of the last token's stream before layer i and after layer i + n - 1, mean over samples.

    `[units, units]`: row i, column n - 1; infinite where there are no such n layers directly one after another.
    """

    on = Ends

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "samples": torch.zeros(()), "broken": torch.zeros(())}

    def update(self, state: State, event: Event) -> State:
        assert isinstance(event, Ends)
        units, device = len(event.before), event.before[0].device
        angles, samples = (torch.zeros(units, units, dtype=torch.float64, device=device) for _ in range(2))
        broken = torch.ones(units, units, dtype=torch.float64, device=device)
        for first in range(units):
            for last in range(first, units):
                if last > first and not _same(event.after[last - 1], event.before[last]):
                    break
                found = cosines(event.before[first], event.after[last]).acos() / math.pi
                angles[first, last - first], samples[first, last - first] = found.sum(), len(found)
                broken[first, last - first] = 0
        added = {"sum": angles, "samples": samples, "broken": broken}
        return {name: state[name].to(device) + more for name, more in added.items()}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        seen = (state["broken"] == 0) & (state["samples"] > 0)
        return torch.where(seen, state["sum"] / state["samples"].clamp_min(1), torch.inf)


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
