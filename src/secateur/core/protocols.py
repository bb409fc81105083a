"""The verbs: one protocol for each question that a pruning method answers. Keep them this small."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from .clock import Clock, Move, Point
from .errors import BudgetError, RecipeError
from .keep import Keep
from .plan import Plan
from .route import Route
from .space import Group, Space
from .stats import Statistic, Stats
from .task import Task

Counts = Mapping[str, int]
"""Units that stay in each *lane* of each group, by group name."""

Subject = object
"""A `torch.nn.Module`, a `Delta`, a data set. Each structure says which kinds it can prune."""


@dataclass(frozen=True)
class Target:
    """How much goes: the share removed of all units of the space.

    Raises:
        RecipeError: outside [0, 1).
    """

    sparsity: float

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise RecipeError(
                f"sparsity is {self.sparsity}, but the share removed lies in [0, 1)",
                where="sparsity=...",
                mend="0.9 removes nine tenths; for the share that stays write keep=0.1",
            )


@dataclass(frozen=True)
class Choice:
    """What was decided: a keep, and where choosing and repairing are one act, also the new weights.

    Attributes:
        keep: what stays.
        values: new tensors by name, already repaired or rescaled; they replace the subject's own.
        routes: for groups whose units exist only at run time, what picks them there.
    """

    keep: Keep
    values: Mapping[str, Tensor] = field(default_factory=dict)
    routes: Mapping[str, Route] = field(default_factory=dict)


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
    def needs_scores(self) -> bool:
        """Whether scores must be ready before `allocate`."""
        return True

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        """Counts that stay, per lane; the space may come back refined (strata, rows, clusters)."""
        ...


@runtime_checkable
class Solve(Protocol):
    """Which ones, and the repair, in one act: SparseGPT, OBS, FLAP, DARE."""

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """Statistics to collect first; none by default."""
        return ()

    def __call__(self, group: Group, stats: Stats, count: int) -> Choice:
        """The keep and the repaired tensor of one group, of which `count` units stay in each lane."""
        ...


@runtime_checkable
class Structure(Protocol):
    """What may go, and what it means to remove it: mask, cut, sample, route."""

    def find(self, subject: Any) -> Space:
        """The groups of this subject. Raises `SubjectError` for a subject of another kind."""
        ...

    @property
    def rewrite_needs(self) -> tuple[Statistic, ...]:
        """Statistics that `rewrite_` reads; none by default."""
        return ()

    def rewrite_(self, subject: Any, stats: Stats) -> Plan:
        """Same function, better units: rotation, permutation, sharing. In place, before every move; nothing by default.

        It is asked before every move, so that a structure can go through a model block by block, each rotation seeing
        the blocks before it already cut.
        """
        return Plan()

    def apply_(self, subject: Any, choice: Choice) -> tuple[Any, Plan]:
        """Carry the choice out, in place where the subject allows it; gives the pruned subject and what was done."""
        ...


@runtime_checkable
class Schedule(Protocol):
    """When does what go? Asked at every step of the clock, 0 included; it holds no state, so it resumes for free."""

    @property
    def starts_dense(self) -> bool:
        """Whether the first leg trains before anything goes (lottery tickets)."""
        return False

    @property
    def regrows(self) -> bool:
        """Whether weights come back; then gradients of pruned weights stay dense."""
        return False

    def legs(self, target: Target) -> int:
        """How many passes through the learning-rate schedule it takes."""
        return 1

    def moves(self, clock: Clock, target: Target) -> Iterable[Move]:
        """What happens at this step."""
        ...

    def check(self, clock: Clock, target: Target) -> None:
        """Raise `RecipeError` where this schedule does not fit this clock. Called once, before any work."""
        return


class Healing:
    """A recovery at work on one subject: hooks on the training step, and a phase of its own at the end.

    This base does nothing, so a recovery overrides what it needs. What it remembers between steps lies in `state`.
    """

    def loss(self, loss: Tensor, outputs: Any, batch: Any) -> Tensor:
        """The loss to differentiate instead."""
        return loss

    def before_step_(self) -> None:
        """Between the backward pass and the optimizer step."""

    def after_step_(self) -> None:
        """After the optimizer step and the masks."""

    def finish_(self) -> None:
        """After the last step: a phase of its own."""

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""


@runtime_checkable
class Recovery(Protocol):
    """How is it healed? A frozen description; `begin` gives the hooks for one subject."""

    def begin(self, model: torch.nn.Module, task: Task) -> Healing:
        """Called once, before anything is pruned, with the dense model."""
        ...


@runtime_checkable
class Procedure(Protocol):
    """A method with a loop of its own; `Recipe` is the default one."""

    def run(self, subject: Any, task: Task | None, target: Target, run: Any) -> Any:
        """Gives a `Result`."""
        ...


__all__ = [
    "Budget",
    "Choice",
    "Clock",
    "Counts",
    "Generator",
    "Healing",
    "Move",
    "Point",
    "Procedure",
    "Recovery",
    "Schedule",
    "Score",
    "Solve",
    "Structure",
    "Subject",
    "Target",
    "fit_count",
]


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
