r"""Knapsack: the units that are worth most for what they cost (Aflalo et al., "Knapsack Pruning", 2020, section 3.2).

    max sum_{kept} v_u   so that   sum_{kept} c_u <= C,     C = (1 - sparsity) sum_u c_u

v is a unit's score and c what the target counts: a unit, or the MACs, parameters, bytes or latency that go with it.
"""

import logging
import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secateur.core import Budget, BudgetError, Counts, Group, RecipeError, Space, Stats, Target, nearest

from .apportion import single_lanes, to_stay

_log = logging.getLogger(__name__)
_CELLS = 1 << 28  # one byte each: whether an item is taken at a capacity


def greedy_keep(
    values: Float[Tensor, " items"], costs: Float[Tensor, " items"], capacity: float
) -> Bool[Tensor, " items"]:
    """Items go in the order of value per cost, the least first, until what is left fits; ties by index."""
    order = (values / costs).nan_to_num(nan=0.0).argsort(stable=True)
    left = costs.sum() - costs[order].cumsum(0)
    tolerance = 1e-9 * float(costs.sum())
    drops = 0 if float(costs.sum()) <= capacity + tolerance else int((left > capacity + tolerance).sum()) + 1
    return torch.ones(len(values), dtype=torch.bool, device=values.device).index_fill(0, order[:drops], False)


def exact_keep(values: Float[Tensor, " items"], weights: list[int], capacity: int) -> Bool[Tensor, " items"]:
    """The best of all choices, by dynamic programming over whole costs; where two are as good, the fuller one."""
    best = torch.zeros(capacity + 1, dtype=torch.float64)
    takes = torch.zeros(len(weights), capacity + 1, dtype=torch.bool)
    for item, (value, weight) in enumerate(zip(values.double().tolist(), weights, strict=True)):
        if weight <= capacity:
            taken = best[: capacity + 1 - weight] + value
            takes[item, weight:] = taken >= best[weight:]
            best = torch.cat((best[:weight], torch.maximum(taken, best[weight:])))
    keep = torch.zeros(len(weights), dtype=torch.bool)
    for item in reversed(range(len(weights))):
        keep[item] = takes[item, capacity]
        capacity -= weights[item] if keep[item] else 0
    return keep.to(values.device)


def unit_costs(space: Space, cost: str) -> dict[str, float]:
    """What one unit of each group costs: the mean over half of its units, removed from the whole; 1 without a cost.

    Raises:
        RecipeError: neither the space nor its groups know such a cost.
    """
    if not cost:
        return {g.name: 1.0 for g in space}
    if cost not in space.totals:
        unknown = next((g for g in space if cost not in g.costs), None)
        if unknown is not None:
            where, mend = f"Knapsack(), group {unknown.name!r}", nearest(cost, {*space.totals, *unknown.costs})
            raise RecipeError(f"its units have no cost of {cost!r}", where=where, mend=mend)
        return {g.name: g.costs[cost] for g in space}
    total, whole = space.totals[cost], space.totals[cost]({})
    return {g.name: max(whole - total({g.name: _half(g)}), 0.0) / max(g.size // 2, 1) for g in space}


def _half(group: Group) -> Bool[Tensor, "..."]:
    return (torch.arange(group.size) >= group.size // 2).reshape(group.shape)


@dataclass(frozen=True)
class Knapsack(Budget):
    """Counts from a knapsack over all units: values are scores, costs are what the target counts.

    Attributes:
        solver: "greedy" by value per cost, or "exact" by dynamic programming; where its table would take more than
            256 MiB, greedy is used and a warning says so.
    """

    solver: Literal["greedy", "exact"] = "greedy"

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        single_lanes(space, f"Knapsack(solver={self.solver!r})")
        costs = unit_costs(space, target.cost)
        capacity = (1 - target.sparsity) * sum(costs[g.name] * g.size for g in space)
        capacity = capacity if target.cost else to_stay(space, target)
        spare = capacity - sum(costs[g.name] * g.floor for g in space)
        if spare < -1e-9 * capacity:
            raise BudgetError(
                f"the floors alone cost {capacity - spare:.6g}, and {capacity:.6g} is the limit",
                where=f"Knapsack on {target.cost or 'units'}",
                mend="lower the sparsity or the floors",
            )
        free = {g.name: evidence.scores[g.name].flatten().sort(descending=True).values[g.floor :] for g in space}
        values = torch.cat([free[g.name].double() for g in space])
        weighs = torch.cat([torch.full((len(free[g.name]),), costs[g.name], dtype=torch.float64) for g in space])
        kept = self._keep(values, weighs.to(values.device), max(spare, 0.0))
        parts = torch.split(kept, [len(free[g.name]) for g in space])
        return space, {g.name: g.floor + int(part.sum()) for g, part in zip(space, parts, strict=True)}

    def _keep(self, values: Tensor, costs: Tensor, capacity: float) -> Tensor:
        if self.solver == "greedy" or not len(values):
            return greedy_keep(values, costs, capacity)
        # costs that are not whole (milliseconds) are rounded up to a 10,000th of the capacity
        whole = bool((costs == costs.round()).all())
        step = 1.0 if whole else max(capacity, float(costs.max())) / 10_000
        weights = [math.ceil(c / step - 1e-9) for c in costs.tolist()]
        divisor = max(math.gcd(*weights), 1)
        size = int(capacity / step + 1e-9) // divisor
        if (size + 1) * len(weights) > _CELLS:
            _log.warning("an exact knapsack of %d units by %d steps is too large; greedy is used", len(weights), size)
            return greedy_keep(values, costs, capacity)
        return exact_keep(values, [w // divisor for w in weights], size)
