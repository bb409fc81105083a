"""Rewinding: train, prune, put the survivors back to an early value, train again (Frankle & Carbin, ICLR 2019)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from secateur.core import Clock, Kind, Move, Point, RandomPick, RecipeError, Rewind, Schedule, Target

Control = Literal["ticket", "reinit", "random-mask"]


def levels(sparsity: float, share: float) -> int:
    """How many prunings of `share` of the survivors reach a sparsity."""
    return max(1, math.ceil(round(math.log(1 - sparsity) / math.log(1 - share), 9))) if sparsity > 0 else 0


@dataclass(frozen=True)
class Rewinding(Schedule):
    """After each leg of training, prune a share of the survivors and rewind; the last leg trains the ticket.

    The last pruning lands on the target itself, so it may take less than a full share.

    Attributes:
        share: of the survivors that goes each time; None prunes once, to the target.
        to: the point of the first leg that weights, buffers, learning rate and data order return to (0 is the
            initialisation), or "end": weights stay as trained and only the learning rate starts again.
        control: "ticket"; "reinit": the final mask on a fresh initialisation; "random-mask": the final counts of each
            matrix at random positions. Controls differ from the ticket in the last leg only.
    """

    share: float | None = 0.2
    to: Point = 0
    control: Control = "ticket"

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share < 1:
            raise RecipeError(
                f"share is {self.share}", where="Rewinding(share=...)", mend="between 0 and 1; the paper removes 0.2"
            )
        if self.control != "ticket" and self.to == "end":
            raise RecipeError(
                f"the control {self.control!r} has nothing to compare with when weights are not rewound",
                where='Rewinding(to="end")',
                mend="rewind to 0 or to an early step",
            )

    @property
    def starts_dense(self) -> bool:
        return True

    def legs(self, target: Target) -> int:
        if self.share is None:
            return 2
        return levels(target.sparsity, self.share) + 1

    def moves(self, clock: Clock, target: Target) -> Iterable[Move]:
        if clock.leg_steps == 0 or clock.step == 0 or clock.step % clock.leg_steps or clock.step >= clock.total:
            return
        level, last = clock.step // clock.leg_steps, self.legs(target) - 1
        sparsity = target.sparsity if level == last or self.share is None else 1 - (1 - self.share) ** level
        controlled = level == last and self.control != "ticket"
        rewind = self._rewind(clock, fresh=controlled and self.control == "reinit")
        if controlled and self.control == "random-mask":
            yield Move(Kind.PRUNE, sparsity)
            yield Move(Kind.REDRAW, None, select=RandomPick(), rewind=rewind)
        else:
            yield Move(Kind.PRUNE, sparsity, rewind=rewind)

    def check(self, clock: Clock, target: Target) -> None:
        if clock.leg_steps < 1:
            raise RecipeError(
                "there is no training between the prunings",
                where="Rewinding",
                mend="give a task, and a recovery FineTune(epochs=...)",
            )
        point = self._rewind(clock, fresh=False)
        if isinstance(point, int) and not 0 <= point < clock.leg_steps:
            raise RecipeError(
                f"it would rewind to step {point}, but a leg has steps 0 to {clock.leg_steps - 1}",
                where="Rewinding(to=...)",
                mend="choose an early step",
            )

    def _rewind(self, clock: Clock, fresh: bool) -> Rewind | None:
        if fresh:
            return "fresh"
        return None if self.to == "end" else clock.at(self.to, of=clock.leg_steps, where="Rewinding(to=...)")
