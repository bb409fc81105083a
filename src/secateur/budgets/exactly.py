"""Exactly so many units go, wherever they are: for few, large ones such as layers."""

from dataclasses import dataclass

from secateur.core import Budget, BudgetError, Counts, RecipeError, Space, Stats, Target

from .global_ import Global


@dataclass(frozen=True)
class Exactly(Budget):
    """The so many lowest scores go, wherever they are; it implies the sparsity.

    Attributes:
        units: how many go; at least one stays.
    """

    units: int

    def __post_init__(self) -> None:
        if self.units < 0:
            raise RecipeError(f"units is {self.units}", where="Exactly(units=...)", mend="0 or more")

    def target(self, space: Space) -> Target:
        """The share of all units that they are.

        Raises:
            BudgetError: there are not so many; names all that may go.
        """
        most = space.size - max(sum(g.floor for g in space), 1)
        if self.units > most:
            names = [", ".join(g.names) if g.names else f"{g.size} of {g.name!r}" for g in space]
            raise BudgetError(
                f"{self.units} units are to go, but of {space.size} no more than {most} may",
                where="; ".join(names),
                mend=f"{most} at most, or a lower floor",
            )
        return Target(self.units / space.size)

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        return Global().allocate(space, evidence, target)
