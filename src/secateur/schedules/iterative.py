"""Iterative: prune a little, heal, and again."""

from collections.abc import Iterable
from dataclasses import dataclass

from secateur.core import Clock, Kind, Move, RecipeError, Schedule, Target


def geometric(target: float, part: float) -> float:
    """The sparsity after `part` (0..1) of the rounds, when each removes the same share of what is left."""
    return target if part >= 1 else 1 - (1 - target) ** part


@dataclass(frozen=True)
class Iterative(Schedule):
    """Prune at the start of each of `rounds` legs of training; every leg runs its own learning-rate schedule.

    Attributes:
        rounds: how many times it prunes.
    """

    rounds: int = 5

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise RecipeError(f"rounds is {self.rounds}", where="Iterative(rounds=...)", mend="1 or more")

    def legs(self, target: Target) -> int:
        return self.rounds

    def moves(self, clock: Clock, target: Target) -> Iterable[Move]:
        if clock.leg_steps == 0 and clock.step == 0:  # nothing to heal in between
            yield Move(Kind.PRUNE, target.sparsity)
        elif clock.leg_steps and clock.step % clock.leg_steps == 0 and clock.step < clock.total:
            yield Move(Kind.PRUNE, geometric(target.sparsity, (clock.step // clock.leg_steps + 1) / self.rounds))
