"""How much each unit matters and how much goes where: scores, budgets, and the counts that pass between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from .errors import BudgetError, RecipeError
from .space import Group, Space
from .stats import Statistic, Stats

Counts = Mapping[str, int]
"""Units that stay in each *lane* of each group, by group name."""


@dataclass(frozen=True)
class Target:
    """How much goes: the share removed of all units of the space, or of what the subject costs.

    Where it is a cost, the engine tries shares until the subject costs what was asked. A budget that knows what units
    cost reads the share as one of that cost; others read it as one of the units.

    Attributes:
        sparsity: the share removed.
        cost: of what, by name: "macs", "params", "bytes", "latency"; empty for units.

    Raises:
        RecipeError: outside [0, 1).
    """

    sparsity: float
    cost: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise RecipeError(
                f"sparsity is {self.sparsity}, but the share removed lies in [0, 1)",
                where="sparsity=...",
                mend="0.9 removes nine tenths; for the share that stays write keep=0.1",
            )


@runtime_checkable
class Score(Protocol):
    """How much does each unit matter? One value per unit of the group, higher = keep, float32 or float64."""

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """Statistics to collect first; none by default."""
        return ()

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        """Scores of shape `group.shape`. Random scores draw from `stats.rng(group)`."""
        ...


@runtime_checkable
class Budget(Protocol):
    """How much goes where? It knows units and costs, never whether they are weights or photographs."""

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """Statistics to collect first, of the subject as it is; none by default."""
        return ()

    @property
    def needs_scores(self) -> bool:
        """Whether scores must be ready before `allocate`."""
        return True

    @property
    def by_blocks(self) -> bool:
        """Whether it asks which groups lie in the same block; then their `section` names the block."""
        return False

    @property
    def meets_cost(self) -> bool:
        """Whether its counts meet a target of a cost by themselves, so that the engine need not try shares."""
        return False

    def digest(self, groups: Space, evidence: Stats) -> Mapping[tuple[str, Statistic], Tensor]:
        """What `allocate` needs to know of one block beside its sizes, while its weights are in memory.

        Asked for models that never are in memory as a whole; `allocate` then finds it in its evidence.
        """
        return evidence.values

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        """Counts that stay, per lane; the space may come back refined (strata, rows, clusters)."""
        ...


def fit_count(group: Group, stays: int) -> int:
    """A wanted count per lane made legal: what the structure fixes, the floor, the multiple, the lane's size."""
    if group.exact is not None:
        return group.exact
    if group.multiple > 1:
        stays = max(1, round(stays / group.multiple)) * group.multiple
    return min(max(stays, group.floor), group.lane)


def check_counts(space: Space, counts: Counts, where: str) -> None:
    """Raise `BudgetError` unless every group has a count within its floor, size, multiple and fixed count."""
    for group in space:
        stays = counts.get(group.name)
        fixed = group.exact is not None and stays != group.exact
        if stays is None or not group.floor <= stays <= group.lane or stays % group.multiple or fixed:
            wanted = f"exactly {group.exact}" if group.exact is not None else f"{group.floor} to {group.lane}"
            raise BudgetError(
                f"{stays} units would stay in a lane of {group.lane}, but {wanted} must",
                where=f"{where}, group {group.name!r}",
                mend="lower the sparsity or the floor",
            )
