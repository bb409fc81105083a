"""One-shot: everything goes at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from secateur.core import Clock, Kind, Move, Point, RecipeError, Schedule, Target


@dataclass(frozen=True)
class OneShot(Schedule):
    """Prune once, at a point of the training; by default before its first step.

    Attributes:
        at: steps, a share of the training, or "2 epochs".
    """

    at: Point = 0

    def moves(self, clock: Clock, target: Target) -> Iterable[Move]:
        if clock.step == clock.at(self.at, where="OneShot(at=...)"):
            yield Move(Kind.PRUNE, target.sparsity)

    def check(self, clock: Clock, target: Target) -> None:
        at = clock.at(self.at, where="OneShot(at=...)")
        if not 0 <= at <= clock.total:
            raise RecipeError(
                f"it would prune at step {at} of {clock.total}",
                where="OneShot(at=...)",
                mend="choose a step of the training",
            )
