"""Pruning block by block: each block is judged by what the pruned blocks before it give."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from secateur.calibration import checked_layout, parts_of
from secateur.calibration.chain import Layout
from secateur.calibration.stream import Act, Residency, Stream
from secateur.core import (
    Budget,
    Counts,
    Forward,
    Group,
    Move,
    Recipe,
    RecipeError,
    Recovery,
    Space,
    Statistic,
    Stats,
    Target,
    Task,
    device_of,
    samples_for,
    to_device,
)

from .acting import Acting, Blocks
from .decide import allot
from .fitting import Wanted
from .journal import Journal


@dataclass(frozen=True)
class Allotted(Budget):
    """Counts that were decided before: of a whole model, for one block of it."""

    refined: Mapping[str, Group]
    counts: Counts

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        mine = tuple(g for g in self.refined.values() if (g.parent or g.name) in space)
        return Space(mine, space.skipped, space.totals), {g.name: self.counts[g.name] for g in mine}


@dataclass
class Streamed:
    """How a model runs whose weights are not in memory.

    Attributes:
        folder: where activations lie; None keeps them in memory.
        finished: blocks that are pruned already.
        acting: what is done around the decision on a part.
    """

    layout: Layout
    residency: Residency
    device: torch.device
    folder: Path | None
    finished: Collection[str]
    acting: Callable[[Act], Act]


def check_blockwise(needs: Iterable[Statistic]) -> None:
    """Raise `RecipeError` for statistics that one block alone cannot give."""
    strange = [type(s).__name__ for s in needs if s.on is not Forward]
    if strange:
        raise RecipeError(
            f"{strange[0]} needs the whole model, which does not run block by block",
            where='Recipe(propagation="pruned")',
            mend='propagation="whole"',
        )


def prune_blocks_(
    model: nn.Module,
    recipe: Recipe,
    move: Move,
    space: Space,
    stats: Stats,
    task: Task,
    batches: Sequence[Any],
    wanted: Wanted | None = None,
    hold: bool = True,
    streamed: Streamed | None = None,
    done: Blocks | None = None,
    journal: Journal | None = None,
) -> Blocks:
    """Decide on each block and carry it out before the next one is heard, in place.

    Args:
        stats: what is known before: the present keep, and what the budget asked for.
        wanted: a target that is a cost, which this cannot meet.
        hold: whether masks stay on the model, as something trains it afterwards; else they are held as bits.
        streamed: for a model whose weights are not in memory.
        done: grows as blocks are pruned; for callers that look on.
        journal: where finished blocks are noted, and taken from.
    """
    judge = move.score or recipe.solve or recipe.score
    assert judge is not None
    needs = tuple(dict.fromkeys((*judge.needs, *(n for r in recipe.recovery for n in r.needs))))
    check_blockwise(needs)
    if wanted is not None:
        raise RecipeError(
            f"a target of {wanted.name} is met by trying shares, and blocks are pruned once",
            where=f"{wanted.name}=...",
            mend="give a sparsity",
        )
    refined, counts = allot(space, recipe, move, stats)
    told = replace(recipe, budget=Allotted({g.name: g for g in refined}, counts))
    layout = layout_for(model, task, batches[0]) if streamed is None else streamed.layout
    parts = parts_of(space, layout, stages=recipe.propagation == "stages")
    done, in_memory = done or Blocks(), streamed is None
    acting = Acting(model, told, replace(move, budget=None), stats, needs, parts, hold, in_memory, done, journal)
    batches = _mine(batches, acting.rebuilding)
    if streamed is None:
        stream = Stream(model, layout, task.call, batches)
        stream.run(parts, needs, acting, "pruned", bool(acting.rebuilding), acting.finished)
    else:
        stream = Stream(model, layout, task.call, batches, streamed.folder, streamed.residency, streamed.device)
        left = [p for p in parts if p.name not in streamed.finished]
        stream.run(left, needs, streamed.acting(acting), "pruned", bool(acting.rebuilding))
    return done


def _mine(batches: Sequence[Any], rebuilding: Sequence[Recovery]) -> Sequence[Any]:
    """This process's share of the batches; what is heard of all shares is put together."""
    if not (dist.is_available() and dist.is_initialized()) or len(batches) < dist.get_world_size():
        return batches
    if rebuilding and dist.get_world_size() > 1:
        raise RecipeError(
            "it trains each block, and several processes prune together",
            where=type(rebuilding[0]).__name__,
            mend="prune in one process",
        )
    return batches[dist.get_rank() :: dist.get_world_size()]


def layout_for(model: nn.Module, task: Task, batch: Any) -> Layout:
    """How a model runs in parts, proven on one sample of a batch."""
    sample = to_device(samples_for(model, batch), device_of(model))
    return checked_layout(model, lambda m: task.call(m, sample), sample)


def sectioned(space: Space, layout: Layout) -> Space:
    """The space with the block that each group lies in as its section; others have none."""
    named = {g.name: part.name for part in parts_of(space, layout) if part.place[1] >= 0 for g in part.space}
    return space.replaced(section=named)
