"""Move: one act of a schedule."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from .judging import Budget, Score
from .select import Select


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
    score: Score | None = None
    budget: Budget | None = None
    select: Select | None = None
    rewind: Rewind | None = None
