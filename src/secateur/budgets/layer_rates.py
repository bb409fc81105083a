"""The same rate in every layer and a lower one in the last, compounded over rounds, as the first lottery tickets."""

import math
from dataclasses import dataclass

from secateur.core import Budget, Counts, RecipeError, Space, Stats, Target, fit_count, kept_count


def last_density(density: float, share: float, last: float) -> float:
    """The density of the last layer when the others have `density`.

    After k rounds the others keep (1 - share)^k and the last one (1 - last * share)^k; k need not be whole.
    """
    rounds = math.log(density) / math.log(1 - share)
    return float((1 - last * share) ** rounds)


@dataclass(frozen=True)
class LayerRates(Budget):
    """Every group loses the target's share, but the last one is pruned at a fraction of the rate.

    Frankle & Carbin, ICLR 2019, section 2: 20 % of each hidden layer and 10 % of the output layer in each round. The
    target is that of all groups but the last, so the whole keeps somewhat more.

    Attributes:
        share: of the survivors that goes in each round.
        last: rate of the space's last group, as a fraction of the others'.
    """

    share: float = 0.2
    last: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or not 0 <= self.last <= 1:
            raise RecipeError(
                f"share is {self.share} and last is {self.last}",
                where="LayerRates(share, last)",
                mend="share lies between 0 and 1, last in [0, 1]; the paper uses 0.2 and 0.5",
            )

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        *others, last = space
        gone = {g.name: target.sparsity for g in others}
        gone[last.name] = 1 - last_density(1 - target.sparsity, self.share, self.last)
        return space, {g.name: fit_count(g, kept_count(gone[g.name], g.lane)) for g in space}
