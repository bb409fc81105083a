"""Paid: all units compete, and each uses up what it costs; large units such as heads use up more than neurons."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.core import Budget, BudgetError, Counts, RecipeError, Space, Stats, Target, nearest

from .apportion import single_lanes


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
    prices = torch.cat([torch.full((len(f),), costs[n]).double() for n, f in zip(scores, free, strict=True)])
    order = torch.cat(free).sort(stable=True).indices.flip(0).cpu()
    paid = torch.cat((torch.zeros(1, dtype=torch.float64), prices[order].cumsum(0)))
    taken = int((paid + sum(costs[n] * floors[n] for n in scores) - spend).abs().argmin())
    stays = torch.zeros(len(order), dtype=torch.bool).index_fill(0, order[:taken], True)
    parts = torch.split(stays, [len(f) for f in free])
    return {name: floors[name] + int(part.sum()) for name, part in zip(scores, parts, strict=True)}


@dataclass(frozen=True)
class Paid(Budget):
    """The lowest scores go, wherever they are, and the target's share is one of what all units cost.

    An et al., "Fluctuation-based Adaptive Structured Pruning", AAAI 2024, section 3.3.

    Attributes:
        cost: of units, by name: "params" or "bytes".
        floor: fewest units that stay in each group (all of them in a smaller group).
    """

    cost: str = "params"
    floor: int = 0

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        where = f"Paid(cost={self.cost!r}, floor={self.floor})"
        single_lanes(space, where)
        unknown = next((g for g in space if self.cost not in g.costs), None)
        if unknown is not None:
            raise RecipeError(
                f"its units have no cost of {self.cost!r}",
                where=f"{where}, group {unknown.name!r}",
                mend=nearest(self.cost, set(unknown.costs)),
            )
        costs = {g.name: float(g.costs[self.cost]) for g in space}
        floors = {g.name: min(max(self.floor, g.floor), g.size) for g in space}
        total = sum(costs[g.name] * g.size for g in space)
        least = sum(costs[g.name] * floors[g.name] for g in space)
        spend = (1 - target.sparsity) * total
        if least > spend * (1 + 1e-9):
            raise BudgetError(
                f"the floors alone cost {least:.6g} {self.cost}, and {spend:.6g} may stay",
                where=where,
                mend=f"a sparsity of {1 - least / total:.4g} at most, or lower floors",
            )
        return space, paid_counts({g.name: evidence.scores[g.name] for g in space}, costs, floors, spend)
