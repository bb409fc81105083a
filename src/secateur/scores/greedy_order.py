"""Which whole layer goes first: each time the one without which the outputs stay nearest to the dense model's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from secateur.core import Event, Greedy, Group, Ordered, RecipeError, Score, State, Statistic, Stats, summed

from . import distances

Distance = Literal["js", "kl", "angular", "norm"]
_OF_ROWS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "js": distances.js,
    "kl": distances.kl,
    "angular": distances.angular,
}


@dataclass(frozen=True)
class RemovalOrder(Statistic):
    """At which step each unit goes, from 0, when whole layers go one after another: `[units]`.

    The order is common to all groups. Two workers find an order each, and merging takes the mean step.

    Attributes:
        distance: between the outputs of the dense model and of what is left: "js" and "kl" of the distributions and
            "angular" of the logits, mean over rows, which are tokens; or "norm" of the difference, mean over samples.
        how: on how many samples, and what may go when.
        compat: whether "js" is that of FinerCut's released code, whose arguments are reversed.
    """

    distance: Distance = "js"
    how: Greedy = Greedy()
    compat: bool = False

    on = Ordered

    def __post_init__(self) -> None:
        if self.distance not in (*_OF_ROWS, "norm") or (self.compat and self.distance != "js"):
            raise RecipeError(
                f"distance is {self.distance!r}, compat {self.compat}",
                where="RemovalOrder(distance, compat)",
                mend='distance is "js", "kl", "angular" or "norm"; compat is of "js"',
            )

    def apart(self, whole: Tensor, without: Tensor, real: Tensor | None) -> tuple[float, float]:
        """The sum of the distances, and of how many rows or samples.

        Args:
            whole, without: logits, samples first and classes last.
            real: `[samples, tokens]`, which tokens are no padding; used where logits are `[samples, tokens, classes]`.
        """
        a, b = (t.reshape(len(t), -1, t.shape[-1]) for t in (whole, without))
        mask = real.to(a.device) if real is not None and real.shape == a.shape[:2] else None
        total, count = 0.0, 0
        for i in range(len(a)):  # one sample at a time: distributions over a vocabulary are large
            x, y = (a[i], b[i]) if mask is None else (a[i][mask[i]], b[i][mask[i]])
            found = distances.norm(x[None], y[None]) if self.distance == "norm" else self._rows(x, y)
            total, count = total + float(found.sum(dtype=torch.float64)), count + len(found)
        return total, count

    def _rows(self, x: Tensor, y: Tensor) -> Tensor:
        return distances.js_released(x, y) if self.compat else _OF_ROWS[self.distance](x, y)

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "orders": torch.zeros(())}

    def update(self, state: State, event: Event) -> State:
        assert isinstance(event, Ordered)
        return {"sum": state["sum"] + event.steps.double(), "orders": state["orders"] + 1}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        return state["sum"] / state["orders"]


@dataclass(frozen=True)
class GreedyOrder(Score):
    """The step at which each whole layer goes, greedily: one order, which serves every sparsity and cost.

    Zhang et al., "FinerCut: Finer-grained Interpretable Layer Pruning for Large Language Models", 2024, algorithm 1.

    Attributes:
        distance, compat: of outputs, as in `RemovalOrder`.
        samples, front, most, force: as in `Greedy`.
    """

    distance: Distance = "js"
    samples: int = 10
    front: float = 0.4
    most: float = 1.0
    force: bool = False
    compat: bool = False

    knows_whole = True

    def __post_init__(self) -> None:
        assert self._order

    @property
    def _order(self) -> RemovalOrder:
        return RemovalOrder(self.distance, Greedy(self.samples, self.front, self.most, self.force), self.compat)

    @property
    def needs(self) -> tuple[RemovalOrder, ...]:
        return (self._order,)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        if not group.without:
            raise RecipeError(
                "the order is that of whole layers, which are left out one by one",
                where=f"GreedyOrder on group {group.name!r}",
                mend="use Layers, or a score of weights such as Taylor",
            )
        return stats[group, self._order]
