"""Global: all units compete, whatever their group."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from secateur.core import Budget, Counts, Space, Stats, Target, boundary

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


@dataclass(frozen=True)
class Global(Budget):
    """The lowest scores go, wherever they are.

    Attributes:
        floor: fewest units that stay in each group (all of them in a smaller group).
    """

    floor: int = 0

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        if all(g.exact is not None for g in space):
            return space, {g.name: g.exact or 0 for g in space}
        single_lanes(space, f"Global(floor={self.floor})")
        counts = global_counts({g.name: evidence.scores[g.name] for g in space}, to_stay(space, target))
        return space, floored(counts, space, self.floor, f"Global(floor={self.floor})")
