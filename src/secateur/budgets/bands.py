"""Populations of width configurations whose cost lies in a narrow band (He et al., "Network Pruning Spaces", 2023).

Keep ratios r_f are drawn from U(least, 1), one for each group, and become r_f^t, with t such that the cost is met: a
rescaling of their logs, which keeps who is narrow and who is wide. What whole units make of it must lie in the band.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import torch
from torch import Generator, Tensor

from secateur.core import BudgetError, Counts, Group, Keep, RecipeError, Space, TopK, fit_count, kept_count

from .apportion import apportion

_HALVINGS = 20
_STEEPEST = 64.0


@dataclass(frozen=True)
class Drawn:
    """A width configuration: units that stay in each group, and what the whole then costs."""

    counts: Counts
    macs: float
    params: float

    @property
    def ratio(self) -> float:
        """q: multiplications for each parameter."""
        return self.macs / max(self.params, 1.0)


def first_units(space: Space, counts: Counts) -> dict[str, Tensor]:
    """A keep of the first units of each group; for costs it does not matter which."""
    return {g.name: (torch.arange(g.size) < counts[g.name]).reshape(g.shape) for g in space}


def top_units(space: Space, counts: Counts, scores: Mapping[str, Tensor]) -> Keep:
    """The keep of the units with the highest scores."""
    kept = {g.name: TopK()(scores[g.name].reshape(1, -1), counts[g.name], Generator()) for g in space}
    return Keep({g.name: kept[g.name].reshape(g.shape).cpu() for g in space})


def share_of(space: Space, counts: Counts, cost: str) -> float:
    """The cost of these counts as a share of the whole; of the units, where no cost is named."""
    if not cost:
        return sum(counts.values()) / space.size
    return space.totals[cost](first_units(space, counts)) / space.totals[cost]({})


def drawn(
    space: Space,
    cost: str,
    share: float,
    rng: Generator,
    *,
    least: float = 0.1,
    tolerance: float = 0.01,
    tries: int = 100_000,
) -> Drawn:
    """One configuration of the pruning space of a cost.

    Args:
        cost: by name, "macs" or another of the space's totals; empty for units, of which exactly the share stays.
        share: of the cost, that stays.
        least: of each group, that stays at least.
        tolerance: how far the cost may be off, as a share of what is wanted; never less than half of what the cheapest
            unit costs, since units are whole.
        tries: draws that may miss the band.

    Raises:
        RecipeError: the structure does not know what its units cost.
        BudgetError: no draw lies in the band; gives the interval that can be reached.
    """
    missing = next((name for name in ("macs", "params", cost) if name and name not in space.totals), None)
    if missing is not None:
        raise RecipeError(
            f"this structure has no total of {missing!r}",
            where="a pruning space",
            mend="use a structure that cuts, such as Channels",
        )
    narrow = {g.name: fit_count(g, ceil(round(least * g.lane, 9))) for g in space}
    low = share_of(space, narrow, cost)
    half = min(1 - share_of(space, {**_whole(space), g.name: g.lane - g.multiple}, cost) for g in space) / 2
    band = max(tolerance * share, half)
    if not low - band <= share <= 1 + band:
        raise _unreachable(share, low, 0)
    for _ in range(tries):
        ratios = least + (1 - least) * torch.rand(len(space), generator=rng, dtype=torch.float64)
        counts = _rescaled(space, ratios.tolist(), cost, share, narrow)
        if not cost or abs(share_of(space, counts, cost) - share) <= band:
            masks = first_units(space, counts)
            return Drawn(counts, space.totals["macs"](masks), space.totals["params"](masks))
    raise _unreachable(share, low, tries)


def _whole(space: Space) -> dict[str, int]:
    return {g.name: g.lane for g in space}


def _rescaled(space: Space, ratios: list[float], cost: str, share: float, narrow: Counts) -> dict[str, int]:
    """The counts of r^t, with the t that meets the share as nearly as whole units allow."""

    def at(t: float) -> dict[str, int]:
        return {g.name: _fit(g, r**t * g.lane, narrow[g.name]) for g, r in zip(space, ratios, strict=True)}

    low, high = 0.0, _STEEPEST
    best, off = at(0.0), abs(1 - share)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        counts = at(middle)
        now = share_of(space, counts, cost)
        if abs(now - share) < off:
            best, off = counts, abs(now - share)
        low, high = (middle, high) if now > share else (low, middle)
    if cost:
        return best
    floors = space.replaced(floor=narrow)
    wanted = {g.name: max(r**low * g.size, narrow[g.name]) for g, r in zip(space, ratios, strict=True)}
    return apportion(
        wanted, floors, max(kept_count(round(1 - share, 12), space.size), sum(narrow.values())), "a pruning space"
    )


def _fit(group: Group, stays: float, narrow: int) -> int:
    return max(fit_count(group, round(stays)), narrow)


def _unreachable(share: float, low: float, tries: int) -> BudgetError:
    drawn_so_far = f"{tries} draws missed the band" if tries else "no configuration lies in the band"
    return BudgetError(
        f"{drawn_so_far} around {share:.4g} of the cost; what can be reached lies between {low:.4g} and 1",
        where="a pruning space",
        mend="another share, a lower least=, or fewer excluded groups",
    )
