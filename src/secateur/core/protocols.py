"""The verbs: one protocol for each question that a pruning method answers. Keep them this small."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .clock import Clock
from .judging import Target
from .keep import Keep
from .move import Move
from .plan import Plan
from .route import Route
from .space import Group, Space
from .stats import Statistic, Stats
from .task import Task

Subject = object
"""A `torch.nn.Module`, a `Delta`, a data set. Each structure says which kinds it can prune."""


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
class Refine(Protocol):
    """Is there a better choice of the same size? Asked once units were chosen, and before they go (iCBS)."""

    def __call__(
        self, model: torch.nn.Module, space: Space, keep: Keep, stats: Stats, task: Task, batches: Sequence[Any]
    ) -> tuple[Keep, Mapping[str, Any]]:
        """A keep with as many units in every lane, and what is worth recording of how it was found, as plain data.

        Args:
            model: with the values that units have if they stay; what is tried on it is put back.
            keep: what was chosen.
            stats: the scores it was chosen by, if there were any, and in `stats.keep` what was there to choose from.
            batches: of the task's training data.
        """
        ...


@runtime_checkable
class Structure(Protocol):
    """What may go, and what it means to remove it: mask, cut, sample, route."""

    @property
    def cuts(self) -> bool:
        """Whether it removes units for good, so that the subject afterwards is smaller and knows only what stayed."""
        return False

    def seeing(self, call: Callable[[Any], Any] | None) -> "Structure":
        """This structure with an example to run the subject on, `call(subject)`; for those that need one."""
        return self

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

    def parameters(self) -> Iterable[torch.nn.Parameter]:
        """Tensors of its own that the optimizer trains beside those of the subject that want gradients."""
        return ()

    def before_move_(self) -> None:
        """Before a move of the schedule scores and prunes."""

    def after_move_(self) -> bool:
        """After a move; True where other tensors are to be trained from now on, so that there is a new optimizer."""
        return False

    def before_step_(self) -> None:
        """Between the backward pass and the optimizer step."""

    def after_step_(self) -> None:
        """After the optimizer step and the masks."""

    def finish_(self) -> None:
        """After the last step: a phase of its own."""

    def plan(self) -> Plan:
        """What it left behind that a saved result must do again."""
        return Plan()

    def facts(self) -> dict[str, Any]:
        """What is worth recording of it in the result's provenance, as plain data."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave."""


@runtime_checkable
class Passes(Protocol):
    """A block whose units are gone, among blocks that are finished: what it is given, and what it gave before.

    Attributes:
        path: of the block in its model.
        block: in eval mode, its masks in force.
    """

    path: str
    block: torch.nn.Module

    def __len__(self) -> int:
        """Batches."""
        ...

    def pair(self, batch: int) -> tuple[Tensor, Tensor]:
        """What the block gives on a batch now, with gradients where they are on, and what it gave: `[..., features]`.

        Of both only what belongs to real tokens, where the batch tells of padding.
        """
        ...


@runtime_checkable
class Recovery(Protocol):
    """How is it healed? A frozen description; `begin` gives the hooks for one subject."""

    @property
    def needs(self) -> tuple[Statistic, ...]:
        """Statistics that `repaired` reads, collected before each move; none by default."""
        return ()

    @property
    def needs_task(self) -> bool:
        """Whether it is of no use without a task."""
        return True

    @property
    def needs_training(self) -> bool:
        """Whether it acts on training steps, so that a recipe without fine-tuning would leave it idle."""
        return False

    @property
    def grows(self) -> bool:
        """Whether it leaves tensors of its own on the subject, as its healing's `plan` says."""
        return False

    @property
    def rebuilds(self) -> bool:
        """Whether it heals one block after another while the model is pruned so, by `rebuild_`."""
        return False

    def check(self, others: Iterable["Recovery"]) -> None:
        """Raise `RecipeError` where it does not go with the other recoveries of its recipe. Called before any work."""
        return

    def repaired(self, space: Space, keep: Keep, stats: Stats) -> Mapping[str, Tensor]:
        """New values by tensor name, in the shapes of before, for what is about to go; none by default."""
        return {}

    def rebuild_(self, passes: Passes, seed: int) -> Mapping[str, Any]:
        """Heal a block that was just pruned, in place; gives what is worth recording of it, as plain data."""
        return {}

    def begin(self, model: torch.nn.Module, task: Task) -> Healing:
        """Called once, before anything is pruned, with the dense model."""
        ...


@runtime_checkable
class Calibration(Protocol):
    """What statistics are collected on, where it is not the task's training data."""

    def batches(self, model: torch.nn.Module, example: Any, seed: int) -> Iterable[Any]:
        """Batches like the example."""
        ...


@runtime_checkable
class Procedure(Protocol):
    """A method with a loop of its own; `Recipe` is the default one."""

    def run(self, subject: Any, task: Task | None, target: Target, run: Any) -> Any:
        """Gives a `Result`."""
        ...
