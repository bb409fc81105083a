"""A floor for any budget: no group falls below a minimum, and the rest pays for it."""

from dataclasses import dataclass

from secateur.core import Budget, BudgetError, Counts, RecipeError, Space, Statistic, Stats, Target, count

from .apportion import apportion, single_lanes


def floored(counts: Counts, space: Space, floor: int, where: str) -> Counts:
    """The counts with at least `floor` units in every group, and the same sum.

    Gupta et al., "Is Complexity Required for Neural Network Pruning?", 2022, minimum threshold: groups below the
    floor are raised to it (smaller ones stay whole), and the sparsities of the free groups are scaled up alike. Here
    raised groups stay raised (water-filling), so it ends after as many rounds as there are groups.

    Raises:
        BudgetError: the floors alone keep more than the counts allow; names the largest floor that fits.
    """
    total = sum(counts.values())
    least = {g.name: max(min(floor, g.size), g.floor) for g in space}
    if all(counts[n] >= low for n, low in least.items()):
        return counts
    if sum(least.values()) > total:
        raise BudgetError(
            f"a floor of {floor} in {len(space)} groups keeps {sum(least.values())} units, but {total} may stay",
            where=where,
            mend=f"a floor of {_largest_floor(space, total)} at most, or a lower sparsity",
        )
    raised: set[str] = set()
    stays = {g.name: float(counts[g.name]) for g in space}
    for _ in range(len(space) + 1):
        new = {g.name for g in space if g.name not in raised and stays[g.name] < least[g.name]}
        raised |= new
        free = [g for g in space if g.name not in raised]
        to_remove = sum(g.size for g in free) - (total - sum(least[n] for n in raised))
        removed = sum(g.size - counts[g.name] for g in free)
        scale = to_remove / removed if removed else 0.0
        stays = {g.name: g.size - scale * (g.size - counts[g.name]) for g in free} | {n: least[n] for n in raised}
        if all(stays[g.name] >= least[g.name] for g in free):
            break
    return apportion(stays, space.replaced(floor=least), total, where)


def _largest_floor(space: Space, total: int) -> int:
    low, high = 0, total
    while low < high:
        middle = (low + high + 1) // 2
        if sum(max(min(middle, g.size), g.floor) for g in space) <= total:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True)
class WithFloor(Budget):
    """Any budget, but at least `keep` units stay in every group.

    Attributes:
        budget: says how much goes where at first.
        keep: the floor: a whole number of units, or a share of all units of the space (0.0005 = 0.05 %). It is one
            number for all groups, not a share of each.
    """

    budget: Budget
    keep: int | float = 0.0005

    def __post_init__(self) -> None:
        if not self.keep >= 0 or (isinstance(self.keep, float) and self.keep >= 1):
            raise RecipeError(
                f"keep is {self.keep}", where="WithFloor(keep=...)", mend="a count, or a share in [0, 1) such as 0.0005"
            )

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return self.budget.needs

    @property
    def needs_scores(self) -> bool:
        return self.budget.needs_scores

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        space, counts = self.budget.allocate(space, evidence, target)
        if all(g.exact is not None for g in space):
            return space, counts
        single_lanes(space, "WithFloor")
        floor = count(self.keep, space.size) if isinstance(self.keep, float) else self.keep
        return space, floored(counts, space, floor, f"WithFloor(keep={self.keep})")
