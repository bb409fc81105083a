"""A cap for any budget: no group loses more than a share of itself, and the rest pays for it."""

import math
from dataclasses import dataclass

from secateur.core import Budget, Counts, RecipeError, Space, Statistic, Stats, Target


@dataclass(frozen=True)
class WithCap(Budget):
    """Any budget, but at most the share `most` of every group goes.

    Attributes:
        budget: says how much goes where at first.
        most: share of the units that a group had before anything went, so that many small cuts are one large one.
    """

    budget: Budget
    most: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.most <= 1:
            raise RecipeError(f"most is {self.most}", where="WithCap(most=...)", mend="a share, above 0 and at most 1")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return self.budget.needs

    @property
    def needs_scores(self) -> bool:
        return self.budget.needs_scores

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        least = {g.name: self._least(evidence.sizes.get(g.name, g.size)) for g in space}
        floors = {g.name: min(max(g.floor, -(-least[g.name] // g.lanes)), g.lane) for g in space if g.exact is None}
        return self.budget.allocate(space.replaced(floor=floors), evidence, target)

    def _least(self, size: int) -> int:
        return math.ceil(round((1 - self.most) * size, 9))
