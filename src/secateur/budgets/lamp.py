r"""LAMP: layer-adaptive magnitude pruning (Lee et al., ICLR 2021).

    lamp(u) = W[u]^2 / sum_{v : |W[v]| >= |W[u]|} W[v]^2        (equation 4, within one layer)

All LAMP scores are ranked together; how many of a layer's survive is its count. The largest weight of every layer
scores 1, so no layer is emptied before every layer is down to one weight.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Budget, BudgetError, Counts, Space, Stats, Target

from .apportion import single_lanes, to_stay
from .global_ import global_counts


def lamp(score: Float[Tensor, "*units"]) -> Float[Tensor, "*units"]:
    """LAMP of magnitudes, in float64; what is already gone (`-inf`) stays `-inf` and counts for nothing.

    Equal magnitudes are ordered by index, as everywhere: the earlier one has the larger denominator.
    """
    flat = score.double().flatten()
    gone = flat == -torch.inf
    square = flat.masked_fill(gone, 0).square()
    # gone first, then ascending; stable, so that ties keep the order of their index
    order = torch.argsort(flat, stable=True)
    ascending = square[order]
    above = ascending.flip(0).cumsum(0).flip(0)
    values = torch.where(above > 0, ascending / above, torch.zeros_like(above))
    values[-1:] = 1  # also 0 / 0 of a layer of zeros, which would be emptied before any other
    result = torch.empty_like(flat).scatter_(0, order, values)
    return result.masked_fill(gone, -torch.inf).reshape(score.shape)


@dataclass(frozen=True)
class Lamp(Budget):
    """Counts per group from a global ranking of LAMP scores; the recipe's scores must be magnitudes."""

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        if all(g.exact is not None for g in space):
            return space, {g.name: g.exact or 0 for g in space}
        single_lanes(space, "Lamp()")
        for group in space:
            scores = evidence.scores[group.name]
            if bool(((scores < 0) & (scores != -torch.inf)).any()):
                raise BudgetError(
                    "LAMP squares magnitudes, but some scores are negative",
                    where=f"Lamp(), group {group.name!r}",
                    mend="use it with the score Magnitude, or use Global",
                )
        return space, global_counts({g.name: lamp(evidence.scores[g.name]) for g in space}, to_stay(space, target))
