"""Stepwise: everything at one moment, but in several cuts, each of which sees what the ones before it left."""

from collections.abc import Iterable
from dataclasses import dataclass

from secateur.core import Clock, Kind, Move, Point, RecipeError, Schedule, Target

from .oneshot import OneShot


@dataclass(frozen=True)
class Stepwise(Schedule):
    """Prune in `steps` equal cuts at a point of the training, with scores anew before each and no training between.

    Attributes:
        steps: how many cuts; their targets lie on a straight line.
        at: steps of the optimizer, a share of the training, or "2 epochs"; by default before the first.
    """

    steps: int = 20
    at: Point = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise RecipeError(f"steps is {self.steps}", where="Stepwise(steps=...)", mend="1 or more")

    def moves(self, clock: Clock, target: Target) -> Iterable[Move]:
        if clock.step == clock.at(self.at, where="Stepwise(at=...)"):
            for step in range(1, self.steps):
                yield Move(Kind.PRUNE, target.sparsity * step / self.steps)
            yield Move(Kind.PRUNE, target.sparsity)

    def check(self, clock: Clock, target: Target) -> None:
        OneShot(self.at).check(clock, target)
