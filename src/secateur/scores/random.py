"""Random: the control that every other score must beat."""

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.core import Group, Score, Stats


@dataclass(frozen=True)
class Random(Score):
    """Uniform draws, from the run's seed and the group's name; weights that are not finite have scores that are not."""

    knows_whole = True

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        draw = torch.rand(group.shape, generator=stats.rng(group, f"random score {stats.step}"))
        return draw if group.site is None else draw.to(group.site.tensor.device) + group.pool(lambda weight: 0 * weight)
