"""Rescaling at the cut: what stays is made larger by its score."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from secateur.core import Healing, Keep, Recovery, Score, Space, Statistic, Stats, Task


@dataclass(frozen=True)
class RescaleKept(Recovery):
    """The weights that make a unit are multiplied by 1 + its score, which should lie in [0, 1].

    Attributes:
        score: of coupled units.
    """

    score: Score

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return self.score.needs

    @property
    def needs_task(self) -> bool:
        return bool(self.score.needs)

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """It acts at the cuts alone."""
        return Healing()

    def repaired(self, space: Space, keep: Keep, stats: Stats) -> Mapping[str, Tensor]:
        values: dict[str, Tensor] = {}
        for group in space:
            score = self.score(group, stats)
            for member in group.members:
                if "producer" in member.roles and not member.is_bias:
                    old = values.get(member.group.name, member.tensor.detach())
                    factor = old.new_ones(member.group.size)
                    # each filter by the score of its own old position; the official code takes that of its new one
                    factor[member.index.to(old.device)] += score[:, None].to(old)
                    values[member.group.name] = old * member.along(factor)
        return values
