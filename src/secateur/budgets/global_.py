"""Global: all units compete, whatever their group."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.core import Budget, BudgetError, Counts, RecipeError, Space, Stats, Target, boundary, nearest

from .apportion import single_lanes, to_stay
from .floor import floored


def global_counts(scores: Mapping[str, Tensor], stay: int) -> dict[str, int]:
    """How many units of each tensor are among the `stay` highest of all; ties by (tensor, flat index)."""
    total = sum(s.numel() for s in scores.values())
    value, ties = boundary(list(scores.values()), total - stay)
    counts = {}
    for name, score in scores.items():
        tied = int((score == value).sum())
        gone_ties = min(ties, tied)
        ties -= gone_ties
        counts[name] = int((score > value).sum()) + tied - gone_ties
    return counts


def paid_counts(
    scores: Mapping[str, Tensor], costs: Mapping[str, float], floors: Mapping[str, int], spend: float
) -> dict[str, int]:
    """How many units of each tensor stay when all are taken from the highest score down, each at its cost.

    It ends where the sum of costs is nearest to `spend`; ties by (tensor, flat index).

    Args:
        costs: of one unit of each tensor.
        floors: so many of each tensor, its best, stay in any case.
    """
    best = {name: score.flatten().double().sort(descending=True).values for name, score in scores.items()}
    free = [best[name][floors[name] :] for name in scores]
    prices = torch.cat(
        [torch.full((len(f),), costs[n], dtype=torch.float64) for n, f in zip(scores, free, strict=True)]
    )
    order = torch.cat(free).sort(stable=True).indices.flip(0).cpu()
    paid = torch.cat((torch.zeros(1, dtype=torch.float64), prices[order].cumsum(0)))
    taken = int((paid + sum(costs[n] * floors[n] for n in scores) - spend).abs().argmin())
    stays = torch.zeros(len(order), dtype=torch.bool).index_fill(0, order[:taken], True)
    parts = torch.split(stays, [len(f) for f in free])
    return {name: floors[name] + int(part.sum()) for name, part in zip(scores, parts, strict=True)}


@dataclass(frozen=True)
class Global(Budget):
    """The lowest scores go, wherever they are.

    Attributes:
        floor: fewest units that stay in each group (all of them in a smaller group).
        of: what the target's share is one of: of all "units", or of a cost of them, such as "params": then large units
            such as heads use up more of it than small ones.
    """

    floor: int = 0
    of: str = "units"

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        if all(g.exact is not None for g in space):
            return space, {g.name: g.exact or 0 for g in space}
        single_lanes(space, f"Global(floor={self.floor})")
        if self.of != "units":
            return space, self._paid(space, evidence, target)
        counts = global_counts({g.name: evidence.scores[g.name] for g in space}, to_stay(space, target))
        return space, floored(counts, space, self.floor, f"Global(floor={self.floor})")

    def _paid(self, space: Space, evidence: Stats, target: Target) -> Counts:
        unknown = next((g for g in space if self.of not in g.costs), None)
        if unknown is not None:
            where = f"Global(of={self.of!r}), group {unknown.name!r}"
            mend = nearest(self.of, {"units", *unknown.costs})
            raise RecipeError(f"its units have no cost of {self.of!r}", where=where, mend=mend)
        costs = {g.name: g.costs[self.of] for g in space}
        floors = {g.name: min(max(self.floor, g.floor), g.size) for g in space}
        total = sum(costs[g.name] * g.size for g in space)
        least = sum(costs[g.name] * floors[g.name] for g in space)
        spend = (1 - target.sparsity) * total
        if least > spend * (1 + 1e-9):
            raise BudgetError(
                f"the floors alone cost {least:.6g} {self.of}, and {spend:.6g} may stay",
                where=f"Global(floor={self.floor}, of={self.of!r})",
                mend=f"a sparsity of {1 - least / total:.4g} at most, or lower floors",
            )
        return paid_counts({g.name: evidence.scores[g.name] for g in space}, costs, floors, spend)
