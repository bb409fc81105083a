"""Isomorphic: units compete with those of groups that look the same (Fang et al., "Isomorphic Pruning", ECCV 2024)."""

from collections.abc import Hashable
from dataclasses import dataclass, replace

from secateur.core import Budget, Counts, Group, Space, Statistic, Stats, Target


def pattern(group: Group) -> Hashable:
    """What a unit is made of: which dimension of what kind of tensor it lies in, in order, and what that does there."""
    if not group.members:
        return group.kind
    return tuple((m.tensor.dim(), m.dim, m.index.shape[1], m.roles) for m in group.members)


@dataclass(frozen=True)
class Isomorphic(Budget):
    """A budget applied apart to every class of groups with the same pattern: each class loses the same share.

    Attributes:
        budget: how much goes where within a class.
    """

    budget: Budget

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return self.budget.needs

    @property
    def needs_scores(self) -> bool:
        return self.budget.needs_scores

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        classes: dict[Hashable, list[Group]] = {}
        for group in space:
            classes.setdefault(pattern(group), []).append(group)
        counts: dict[str, int] = {}
        refined: dict[str, tuple[Group, ...]] = {}
        for groups in classes.values():
            part, mine = self.budget.allocate(replace(space, groups=tuple(groups)), evidence, target)
            counts |= mine
            for group in part:
                whole = group.parent or group.name
                refined[whole] = (*refined.get(whole, ()), group)
        return replace(space, groups=tuple(g for group in space for g in refined.get(group.name, ()))), counts
