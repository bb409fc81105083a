"""A training curve in bounded memory: when it grows too long, neighbours become their mean."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Curve:
    """The loss over steps, as means over stretches of equal length.

    Attributes:
        most: points at most; half as many, or more, once the curve is that long.
        stretch: how many values each point is the mean of.
        steps: the last step of each point.
        losses: the mean loss of each point.
    """

    most: int = 200
    stretch: int = 1
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    _sum: float = 0.0
    _count: int = 0

    def add(self, step: int, loss: float) -> None:
        """One more value."""
        self._sum, self._count = self._sum + loss, self._count + 1
        if self._count < self.stretch:
            return
        if len(self.steps) == self.most:
            self._halve()
            if self._count < self.stretch:
                return
        self.steps.append(step)
        self.losses.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0

    def _halve(self) -> None:
        self.losses = [(a + b) / 2 for a, b in zip(self.losses[::2], self.losses[1::2], strict=True)]
        self.steps = self.steps[1::2]
        self.stretch *= 2

    def to_json(self) -> dict[str, list[Any]]:
        """`step` and `loss`, equally long."""
        return {"step": list(self.steps), "loss": list(self.losses)}

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {**self.to_json(), "stretch": self.stretch, "sum": self._sum, "count": self._count}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.steps, self.losses = list(state["step"]), list(state["loss"])
        self.stretch, self._sum, self._count = state["stretch"], state["sum"], state["count"]
