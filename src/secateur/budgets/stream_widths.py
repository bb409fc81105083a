"""How wide a stream is at each of its places."""

from dataclasses import dataclass
from fractions import Fraction

from secateur.core import Budget, BudgetError, Counts, RecipeError, Space, Stats, Target


@dataclass(frozen=True)
class StreamWidths(Budget):
    """(1 - s) of each group stays, rounded down to a multiple; s is the target, or falls or rises with the depth.

    Ashkboos et al., "SliceGPT", ICLR 2024, whose code rounds to multiples of 8.

    Attributes:
        multiple: of what stays; a group that loses nothing stays whole.
        tilt: the first group loses s (1 - tilt) and the last s (1 + tilt), those between lie on a line; 0 for the same
            share everywhere.

    Raises:
        RecipeError: a multiple below 1, or a tilt outside [-1, 1].
    """

    multiple: int = 8
    tilt: float = 0.0

    def __post_init__(self) -> None:
        if self.multiple < 1 or not -1 <= self.tilt <= 1:
            raise RecipeError(
                f"multiple is {self.multiple}, tilt {self.tilt}",
                where="StreamWidths(...)",
                mend="a multiple of 1 or more, and a tilt in [-1, 1]",
            )

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        """Raises `BudgetError` where fewer than the multiple or the floor would stay."""
        counts = {}
        for at, group in enumerate(space):
            slope = Fraction(2 * at, max(len(space) - 1, 1)) - 1 if len(space) > 1 else Fraction(0)
            share = Fraction(repr(target.sparsity)) * (1 + Fraction(repr(self.tilt)) * slope)
            stay = int((1 - share) * group.lane) // self.multiple * self.multiple if share else group.lane
            if share >= 1 or stay < max(group.floor, 1):
                raise BudgetError(
                    f"{stay} of {group.lane} would stay at a sparsity of {float(share):.4g}, in multiples of "
                    f"{self.multiple}",
                    where=f"StreamWidths, group {group.name!r}",
                    mend="a lower sparsity, or a smaller multiple=",
                )
            counts[group.name] = stay
        return space, counts
