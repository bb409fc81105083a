"""Meeting a target that is a cost of the whole subject (MACs, parameters, bytes, latency) by trying shares of units."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from secateur.core import BudgetError, Choice, Keep, RecipeError, Space, nearest

_log = logging.getLogger(__name__)
_CLOSE = 0.01
_STEPS = 40


@dataclass(frozen=True)
class Wanted:
    """What the subject may cost.

    Attributes:
        name: of the cost.
        most: in its own unit.
        dense: what it cost before anything was cut, for messages.
        last: whether this is the target itself, and not one of the steps to it.
    """

    name: str
    most: float
    dense: float
    last: bool = True


def total_of(space: Space, name: str) -> Callable[[Mapping[str, Tensor]], float]:
    """The cost of the whole subject under a keep.

    Raises:
        RecipeError: the structure knows no such cost.
    """
    if name not in space.totals:
        known = ", ".join(space.totals) or "none: give a sparsity"
        mend = nearest(name, space.totals) if space.totals else known
        raise RecipeError(f"this structure has no target of {name!r}", where=f"{name}=...", mend=mend)
    return space.totals[name]


def fitted(space: Space, wanted: Wanted, choose: Callable[[float], Choice], gone: float = 0.0) -> Choice:
    """The choice whose cost is nearest to what is wanted.

    Costs fall as shares grow, in steps: units are whole, and groups differ. Bisection finds the step.

    Args:
        choose: the choice for a share of units.
        gone: the share that is masked already, and stays so.

    Raises:
        BudgetError: even the smallest subject costs more; says how much it costs.
    """
    cost = total_of(space, wanted.name)
    low, high = gone, 1 - 1 / max(space.size, 2)
    best = choose(low)
    best_cost = cost(best.keep.masks if gone else {})
    if best_cost <= wanted.most:
        return best
    least, choice = _least(high, choose, cost, 0.25 / max(space.size, 1))
    if least > wanted.most * (1 + _CLOSE):
        raise BudgetError(
            f"the smallest subject that this budget makes costs {least:.6g}, more than the {wanted.most:.6g} wanted",
            where=f"{wanted.name}=...",
            mend=f"{wanted.name}={least / wanted.dense:.3g} or more, a lower floor, or fewer excluded groups",
        )
    under, under_cost = choice, least
    for _ in range(_STEPS):
        share = (low + high) / 2
        try:
            now = choose(share)
        except BudgetError:
            high = share
            continue
        spent = cost(now.keep.masks)
        if spent > wanted.most:
            low = share
            if spent < best_cost:
                best, best_cost = now, spent
        else:
            high = share
            if spent > under_cost:
                under, under_cost = now, spent
        if abs(spent - wanted.most) <= _CLOSE * 0.05 * wanted.most or high - low < 0.25 / max(space.size, 1):
            break
    chosen, spent = _between(space, best, under, cost, wanted.most)
    if wanted.last and abs(spent / wanted.most - 1) > _CLOSE:
        asked, met = wanted.most / wanted.dense, spent / wanted.dense
        _log.warning("%s=%.4g was asked for; the nearest that whole units allow is %.4g", wanted.name, asked, met)
    return chosen


def _between(
    space: Space, over: Choice, under: Choice, cost: Callable[[Mapping[str, Tensor]], float], most: float
) -> tuple[Choice, float]:
    """Of two neighbouring choices, the groups of each that together come nearest."""
    masks = dict(under.keep.masks)
    spent = cost(masks)
    for group in space:
        if group.name in masks and group.name in over.keep:
            tried = {**masks, group.name: over.keep[group.name]}
            now = cost(tried)
            if abs(now - most) < abs(spent - most):
                masks, spent = tried, now
    return replace(under, keep=Keep(masks)), spent


def _least(
    share: float, choose: Callable[[float], Choice], cost: Callable[[Mapping[str, Tensor]], float], fine: float
) -> tuple[float, Choice]:
    """The cheapest choice that there is: floors may forbid the largest shares.

    Args:
        share: the largest.
        fine: how near to the largest share that is not forbidden one must come.
    """
    found, low = None, 0.0
    high = share
    while found is None or high - low > fine:
        try:
            found, low = choose(share), share
        except BudgetError:
            high = share
            if high < fine:
                found = choose(0.0)
                break
        share = (low + high) / 2
    return cost(found.keep.masks), found
