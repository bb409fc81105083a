"""When: a clock of optimizer steps, points on it as a user writes them, and the moves that a schedule makes."""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal

from .errors import RecipeError

if TYPE_CHECKING:
    from .protocols import Budget, Score
    from .select import Select

Point = int | float | str
"""A moment or a length: 500 (steps), 0.25 (share of the training), or "2 epochs"."""


@dataclass(frozen=True)
class Clock:
    """Where training stands.

    Attributes:
        step: optimizer steps done, 0 before the first.
        leg_steps: steps of one leg; a leg is one pass through the learning-rate schedule.
        legs: how many legs there are; after each, an iterative schedule prunes and may rewind.
        epoch_steps: optimizer steps in an epoch, if known.
    """

    step: int
    leg_steps: int
    legs: int = 1
    epoch_steps: int | None = None

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.leg_steps * self.legs

    def at(self, point: Point, of: int | None = None, where: str = "a schedule") -> int:
        """The step that a `Point` names; shares are of `of`, by default of the whole training."""
        if isinstance(point, str):
            number, _, unit = point.strip().partition(" ")
            try:
                epochs = float(number)
            except ValueError:
                epochs = float("nan")
            if unit not in ("epoch", "epochs") or not 0 <= epochs < float("inf"):
                raise RecipeError(
                    f"{point!r} is no moment of training", where=where, mend='write 500 (steps), 0.25 or "2 epochs"'
                )
            if self.epoch_steps is None:
                raise RecipeError(
                    f"{point!r} needs the length of an epoch", where=where, mend="pass epoch_steps=..., or use steps"
                )
            return round(epochs * self.epoch_steps)
        if isinstance(point, float):
            return round(point * (self.total if of is None else of))
        return point


class Kind(Enum):
    """PRUNE: survivors compete, some go. REGROW: the removed compete, some return. REDRAW: all compete anew."""

    PRUNE = "prune"
    REGROW = "regrow"
    REDRAW = "redraw"


Rewind = int | Literal["fresh"]


@dataclass(frozen=True)
class Move:
    """One act of a schedule.

    Attributes:
        kind: who competes.
        sparsity: the share of all units that is gone after it; None leaves the counts of every group as they are.
        score, budget, select: used instead of the recipe's own, if given.
        rewind: afterwards the subject returns to what it was at this step (0 = as given), with a new optimizer and
            the learning-rate schedule at that step; "fresh" draws a new initialisation.
    """

    kind: Kind
    sparsity: float | None
    score: "Score | None" = None
    budget: "Budget | None" = None
    select: "Select | None" = None
    rewind: Rewind | None = None
