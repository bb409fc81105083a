r"""Sensitivity: every section gives up what it can for the same loss of quality (a scan of sections, one at a time).

A section is a number of groups with a common key. While all others are whole, the lowest scores of one section go at
each scanned ratio; what that costs is D(r). With one limit delta for all,

    r_s = max { r : D_s(r) <= delta }

Between scanned ratios, D is taken for straight. delta is the one at which as much goes as was asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil
from typing import Literal

import torch
from torch import Tensor

from secateur.core import Budget, BudgetError, Counts, Group, Keep, RecipeError, Space, Stats, Target, TopK, kept_count
from secateur.core.progress import report

from .apportion import apportion, single_lanes, to_stay
from .floor import floored
from .global_ import global_counts

_HALVINGS = 60


def rising(drops: Sequence[float]) -> list[float]:
    """The least drop of this ratio or any larger one: where more can go, less can as well."""
    return list(accumulate(reversed(drops), min))[::-1]


def largest_ratio(ratios: Sequence[float], drops: Sequence[float], delta: float) -> float:
    """The largest ratio whose drop is delta at most, between the scanned ones on straight lines from (0, 0)."""
    r, d = [0.0, *ratios], rising([0.0, *drops])
    last = max((i for i, drop in enumerate(d) if drop <= delta), default=-1)
    if last < 0:
        return 0.0
    if last == len(r) - 1:
        return r[-1]
    return r[last] + (r[last + 1] - r[last]) * (delta - d[last]) / (d[last + 1] - d[last])


@dataclass(frozen=True)
class Sensitivity(Budget):
    """Shares for sections of groups from a scan, at one drop of quality for all; units of a section compete.

    Attributes:
        ratios: the shares of a section that are tried, ascending.
        delta: the largest drop allowed, in the task's first metric; None allows what the target takes.
        floor: share of its first units that every group keeps.
        by: what groups of a section have in common: where they lie, what their units are, or nothing but themselves.
    """

    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    delta: float | None = None
    floor: float = 0.1
    by: Literal["section", "kind", "name"] = "section"

    def __post_init__(self) -> None:
        fine = self.ratios and list(self.ratios) == sorted(set(self.ratios)) and self.ratios[0] > 0
        if not fine or self.ratios[-1] >= 1 or not 0 <= self.floor < 1:
            raise RecipeError(
                f"ratios are {self.ratios} and floor is {self.floor}",
                where="Sensitivity(ratios, floor)",
                mend="ascending shares between 0 and 1, and a floor in [0, 1); the usual scan takes 0.1 to 0.9",
            )

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        single_lanes(space, "Sensitivity()")
        space = space.replaced(floor={g.name: self._floor(g, evidence.sizes.get(g.name, g.size)) for g in space})
        if to_stay(space, target) == space.size:
            return space, {g.name: g.size for g in space}
        sections: dict[str, tuple[Group, ...]] = {}
        for group in space:
            key = str(getattr(group, self.by))
            sections[key] = (*sections.get(key, ()), group)
        parts = {key: replace(space, groups=groups) for key, groups in sections.items()}
        drops = self._scan(space, parts, evidence)
        shares = self._shares(parts, drops, space.size - to_stay(space, target))
        whole = Space(tuple(Group(k, (p.size,), floor=sum(g.floor for g in p)) for k, p in parts.items()))
        wanted = {key: (1 - shares[key]) * part.size for key, part in parts.items()}
        stay = apportion(wanted, whole, to_stay(space, target), "Sensitivity()")
        return space, {
            n: c for key, part in parts.items() for n, c in _within(part, stay[key], evidence.scores).items()
        }

    def _floor(self, group: Group, first: int) -> int:
        return min(max(group.floor, ceil(round(self.floor * first, 9))), group.lane)

    def _scan(self, space: Space, parts: Mapping[str, Space], evidence: Stats) -> dict[str, list[float]]:
        """What each ratio of each section costs, by what is measured when the rest is whole."""
        if evidence.trial is None:
            raise RecipeError(
                "a scan measures the subject, and there is no task to measure it by",
                where="Sensitivity()",
                mend="pass task=sc.Task(train=..., test=...)",
            )
        dense, total = evidence.trial(Keep.all(space)), len(parts) * len(self.ratios)
        found: dict[str, list[float]] = {}
        for key, part in parts.items():
            for ratio in self.ratios:
                stay = max(kept_count(ratio, part.size), sum(g.floor for g in part))
                keep = _keep(space, _within(part, stay, evidence.scores), evidence.scores)
                found.setdefault(key, []).append(dense - evidence.trial(keep))
                report("sensitivity scan", sum(map(len, found.values())), total)
        return found

    def _shares(self, parts: Mapping[str, Space], drops: Mapping[str, list[float]], gone: int) -> dict[str, float]:
        """The share of each section that goes, so that `gone` units go in all."""
        most = {key: 1 - sum(g.floor for g in part) / part.size for key, part in parts.items()}

        def at(delta: float) -> dict[str, float]:
            return {key: min(largest_ratio(self.ratios, drops[key], delta), most[key]) for key in parts}

        def units(shares: Mapping[str, float]) -> float:
            return sum(shares[key] * part.size for key, part in parts.items())

        every = [d for found in drops.values() for d in found]
        limit = max(every) if self.delta is None else min(self.delta, max(every))
        if units(at(limit)) < gone - 1e-6:
            of, size = units(at(limit)), sum(part.size for part in parts.values())
            raise BudgetError(
                f"{gone} of {size} units would go, but only {of:.0f} can at a drop of {limit:.4g} in every section",
                where=f"Sensitivity(delta={self.delta}, floor={self.floor})",
                mend=f"a sparsity of {of / size:.4g} at most, a larger delta, or a lower floor",
            )
        low, high = min(0.0, *every) - 1.0, limit
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if units(at(middle)) < gone else (low, middle)
        below, above = at(low), at(high)  # where a curve is flat, a share jumps, and what is wanted lies between
        span = units(above) - units(below)
        part = (gone - units(below)) / span if span > 0 else 1.0
        return {key: below[key] + part * (above[key] - below[key]) for key in parts}


def _within(part: Space, stay: int, scores: Mapping[str, Tensor]) -> dict[str, int]:
    """How many units of each group are among the highest of the section, floors kept."""
    counts = global_counts({g.name: scores[g.name] for g in part}, stay)
    return dict(floored(counts, part, 0, "Sensitivity()"))


def _keep(space: Space, counts: Mapping[str, int], scores: Mapping[str, Tensor]) -> Keep:
    """The keep of these counts; groups without one are whole."""
    masks = dict(Keep.all(space).masks)
    for name, count in counts.items():
        chosen = TopK()(scores[name].reshape(1, -1), count, torch.Generator())
        masks[name] = chosen.reshape(masks[name].shape).cpu()
    return Keep(masks)
