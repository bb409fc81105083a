"""A family of models, and whether pruning a larger member beats the smaller one that costs as much."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import nn

from secateur.core import Recipe, RecipeError, Task
from secateur.recovery import ScratchB

from .measure import multiplications
from .methods import as_recipe
from .prune import prune
from .result import Result
from .training import Device, train_

T = TypeVar("T")
ABSENT = "absent: the family has no member beside the one that is pruned"


@dataclass(frozen=True)
class Member:
    """A member of the family as it is, unpruned.

    Attributes:
        macs: of one sample.
        metrics: on the task's test data.
        cpu_hours: of its training here; None where it came trained.
        train_steps: likewise.
    """

    name: str
    macs: int
    metrics: Mapping[str, float]
    cpu_hours: float | None = None
    train_steps: int | None = None


@dataclass(frozen=True)
class FamilyResult:
    """A larger member pruned to a cost, beside the unpruned member nearest to that cost.

    Attributes:
        macs: the cost asked for, in multiplications of one sample.
        counted: which measure of a result meets it: "macs", or for masked weights "macs_nonzero", *ideal sparse* MACs,
            which no dense kernel turns into speed.
        parent: the member that was pruned, the next larger than the cost.
        pruned: what came of it.
        sibling: the unpruned member nearest to the cost; None where there is none.
        comparison: how the pruned one stands to it, by metric: pruned minus sibling; or why it is absent.
        scratch: what is left of the parent, trained from new weights (Scratch-B); None where it was not asked for.
        cpu_hours: of pruning with its fine-tuning, of training the sibling and the parent, and of Scratch-B; None for
            what was not done here.
    """

    macs: float
    counted: str
    parent: Member
    pruned: Result
    sibling: Member | None
    comparison: Mapping[str, float] | str
    scratch: Result | None = None
    cpu_hours: Mapping[str, float | None] = field(default_factory=dict)


def compact_family(
    members: Mapping[str, nn.Module],
    target: str | float,
    task: Task,
    *,
    method: str | Recipe = "compact-convnets",
    train: bool = False,
    scratch: bool = True,
    seed: int = 0,
    device: str | None = None,
    **settings: Any,
) -> FamilyResult:
    """Prune the next larger member of a family to a cost, and compare with the member that costs as much unpruned.

    Ghosh et al., "Pruning Compact ConvNets for Efficient Inference", 2022. The given models are left as they are.

    Args:
        members: by name; trained, unless `train`.
        target: the name of the member to match (the sibling), or a number of MACs of one sample.
        task: data, loss, metrics, and how the family is trained.
        method: what prunes; with its settings. Structures that cut are held to their MACs, masked weights to ideal
            sparse ones.
        train: whether the parent and the sibling are trained here first, by the task's recipe; that is timed.
        scratch: whether what is left is also trained from new weights.
        seed: of every random choice.
        device: "cpu" or "cuda".

    Raises:
        RecipeError: there is no such member; no member costs more than the target.
    """
    example = next(iter(task.batches("test", shuffle=False)))
    costs = {name: multiplications(model, task, example)["macs"] for name, model in members.items()}
    most = _wanted(target, costs)
    parent = min((name for name in costs if costs[name] > most), key=lambda name: costs[name])
    rest = {name: abs(cost - most) for name, cost in costs.items() if name != parent}
    sibling = min(rest, key=lambda name: rest[name], default=None)
    goal = task.fork(seed)

    def member(name: str) -> tuple[Member, nn.Module]:
        model, hours, steps = copy.deepcopy(members[name]), None, None
        if train:
            steps, hours = _timed(lambda: train_(model, goal, seed=seed, device=Device(device), title=name).done)
        return Member(name, costs[name], goal.evaluate(model), hours, steps), model

    smaller = member(sibling)[0] if sibling is not None else None
    larger, model = member(parent)
    recipe = as_recipe(method, **settings)
    dense = copy.deepcopy(model)
    call: dict[str, Any] = {"macs": most / costs[parent], "task": task, "seed": seed, "device": device}
    pruned, hours = _timed(lambda: prune(model, method, **call, **settings))
    again, hours_again = None, None
    if scratch:
        stretched = ScratchB(flops_model="dense" if recipe.structure.cuts else "ideal")
        ways = (*recipe.recovery, stretched)
        again, hours_again = _timed(lambda: prune(dense, recipe, recovery=ways, **call))
    return FamilyResult(
        macs=most,
        counted="macs" if recipe.structure.cuts else "macs_nonzero",
        parent=larger,
        pruned=pruned,
        sibling=smaller,
        comparison=_compared(pruned, smaller),
        scratch=again,
        cpu_hours={
            "prune and fine-tune": hours,
            "train the sibling": smaller.cpu_hours if smaller else None,
            "train the parent": larger.cpu_hours,
            "scratch-b": hours_again,
        },
    )


def _compared(pruned: Result, sibling: Member | None) -> dict[str, float] | str:
    if sibling is None:
        return ABSENT
    return {name: value - sibling.metrics[name] for name, value in pruned.metrics.items()}


def _wanted(target: str | float, costs: Mapping[str, int]) -> float:
    """The cost in MACs, for which there is a larger member."""
    told = ", ".join(f"{name} ({cost:,})" for name, cost in sorted(costs.items(), key=lambda item: item[1]))
    if isinstance(target, str) and target not in costs:
        raise RecipeError(f"the family has no member {target!r}", where="compact_family(target=...)", mend=told)
    most = float(costs[target] if isinstance(target, str) else target)
    if not 0 < most < max(costs.values(), default=0):
        raise RecipeError(
            f"no member costs more than {most:,.0f} MACs, and pruning makes none larger",
            where="compact_family(target=...)",
            mend=f"a smaller target, or a larger member beside {told or 'none'}",
        )
    return most


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the CPU hours of this process that it took."""
    begin = time.process_time()
    found = work()
    return found, (time.process_time() - begin) / 3600
