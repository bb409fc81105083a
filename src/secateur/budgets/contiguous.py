"""Contiguous: so many layers one after another, where the stream turns least between the first and the last of them.

Gromov et al., "The Unreasonable Ineffectiveness of the Deeper Layers", 2024: of all starts i of n layers, the one with
the least arccos(cos(x_i, x_{i+n})) / pi on the last token.
"""

from dataclasses import dataclass

import torch

from secateur.core import Budget, BudgetError, Counts, Space, SpanAngle, Stats, Target

from .apportion import single_lanes, to_stay


@dataclass(frozen=True)
class Contiguous(Budget):
    """One run of layers goes, where the angle between what enters and what leaves it is least; ties by place.

    It decides by itself which layers go, and reads `SpanAngle`, which the score `LayerAngle` asks for.
    """

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        single_lanes(space, "Contiguous()")
        gone = space.size - to_stay(space, target)
        counts = {g.name: g.size for g in space}
        if not gone:
            return space, counts
        found = []
        for place, group in enumerate(space):
            if gone <= group.size - group.floor:
                angles = evidence[group, SpanAngle()][:, gone - 1]
                start = int(angles.argmin())
                found.append((float(angles[start]), place, start))
        if not found or min(found)[0] == float("inf"):
            longest = max(g.size - g.floor for g in space)
            raise BudgetError(
                f"{gone} layers are to go in one run, but no {gone} that may go stand one after another",
                where="Contiguous()",
                mend=f"a lower sparsity: groups can lose {longest} at most; or let scores choose, wherever they are",
            )
        _, place, start = min(found)
        group = space.groups[place]
        stay = torch.tensor([i for i in range(group.size) if not start <= i < start + gone], dtype=torch.long)
        parts = {"rest": stay} if len(stay) else {}
        counts = {g.name: g.size for g in space if g is not group}
        return space.refined({group.name: parts}), counts | {f"{group.name}/{n}": len(i) for n, i in parts.items()}
