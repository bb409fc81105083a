"""The same share everywhere."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from secateur.core import (
    Budget,
    BudgetError,
    Counts,
    Group,
    RecipeError,
    Space,
    Stats,
    Target,
    fit_count,
    kept_count,
)

from .apportion import apportion, from_densities, to_stay


@dataclass(frozen=True)
class Uniform(Budget):
    """Every group loses the same share: exactly round(sparsity * size) of its units.

    Attributes:
        per: "group", or "row" to let the units of each output row compete among themselves only.
    """

    per: Literal["group", "row"] = "group"

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        if self.per == "row":
            space = Space(tuple(map(by_rows, space)), space.skipped)
        return space, {g.name: fit_count(g, kept) for g, kept in stays(space, evidence.sizes, target)}


def by_rows(group: Group) -> Group:
    """The group with a lane for each row, over which its floor is shared out; N:M has lanes of its own."""
    if group.exact is not None:
        return group
    return replace(group, lanes=group.shape[0], floor=math.ceil(group.floor / group.shape[0]))


def stays(space: Space, sizes: Mapping[str, int], target: Target) -> Iterator[tuple[Group, int]]:
    """How many of each lane stay; where earlier cuts took some, the share is of what each group had at first."""
    first = {g.name: sizes.get(g.name, g.size) for g in space}
    share = target.sparsity
    if any(g.size != first[g.name] for g in space):
        share = round(1 - (1 - share) * space.size / sum(first.values()), 12)  # a half stays a half
    for group in space:
        yield group, kept_count(share, first[group.name] // group.lanes)


@dataclass(frozen=True)
class UniformPlus(Budget):
    """Uniform, but the first group stays dense and the last keeps at least `last` of its units.

    Gale et al., "The State of Sparsity in Deep Neural Networks", 2019, section 5; first and last are those of the
    space's order, which for a network is the first convolution and the classifier.
    """

    last: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.last <= 1:
            raise RecipeError(f"last is {self.last}", where="UniformPlus(last=...)", mend="a share, 0 to 1")

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        where = f"UniformPlus(last={self.last})"
        if len(space) < 3:
            raise BudgetError(
                f"the space has {len(space)} groups", where=where, mend="use Uniform: there is no middle to prune"
            )
        first, *middle, last = space
        stay = to_stay(space, target)
        least = math.ceil(round(self.last * last.size, 9))
        of_last = max((stay - first.size) / (space.size - first.size) * last.size, least)
        rest = (stay - first.size - of_last) / sum(g.size for g in middle)
        if rest <= 0:
            dense = first.size + least
            raise BudgetError(
                f"the first and the last group alone keep {dense} units, more than the target allows",
                where=where,
                mend=f"a sparsity below {1 - dense / space.size:.4g}, or a smaller last=",
            )
        densities = dict.fromkeys((g.name for g in middle), rest) | {first.name: 1.0, last.name: of_last / last.size}
        if all(g.lanes == 1 and g.exact is None for g in space):
            pinned = space.replaced(floor={first.name: first.size, last.name: max(last.floor, least)})
            wanted = {g.name: densities[g.name] * g.size for g in space}
            return space, apportion(wanted, pinned, stay, where)
        return space, from_densities(densities, space, target, where)
