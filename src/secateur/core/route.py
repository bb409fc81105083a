"""Route: pruning at run time. The count is decided beforehand, which units stay is decided in every forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor

from .judging import Score
from .select import Select
from .space import Group
from .stats import Statistic, Stats


@dataclass(frozen=True)
class Route:
    """The same score and the same select as everywhere, called from inside the model.

    Attributes:
        group: of units that exist only while the model runs (tokens of one sequence).
        score: reads the statistics of this forward pass.
        select: picks `count` units in every sequence on its own.
        count: units that stay in each sequence.
        seed: of the run.
    """

    group: Group
    score: Score
    select: Select
    count: int
    seed: int = 0

    def __call__(self, batch: int, values: Mapping[Statistic, Tensor]) -> Bool[Tensor, "batch units"]:
        """Which units stay, for each of `batch` sequences, given what this forward pass shows."""
        group = replace(self.group, shape=(batch, self.group.size), lanes=batch)
        stats = Stats({(group.name, s): v for s, v in values.items()}, seed=self.seed)
        return self.select(self.score(group, stats), self.count, stats.rng(group, "select"))
