"""Pruning block by block: each block is judged by what the pruned blocks before it give."""

import logging
import resource
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from secateur.calibration import checked_layout, parts_of
from secateur.calibration.chain import Layout
from secateur.calibration.stream import Act, Part, Residency, Stream
from secateur.core import (
    Budget,
    Choice,
    Counts,
    Forward,
    Group,
    InputGram,
    InputNorm,
    Move,
    Passes,
    Plan,
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
from secateur.core.masks import detach_mask_
from secateur.core.memory import give_back
from secateur.core.packed import PackedMasks

from .decide import allot, decided
from .fitting import Wanted

_log = logging.getLogger(__name__)
_ROWS = 64
_MOMENTS = (InputGram(), InputGram(precise=False), InputNorm())


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
class Blocks:
    """What pruning block by block did; `masks` are in the tensors' own shapes, of those that hold no more."""

    keep: PackedMasks = field(default_factory=PackedMasks)
    masks: PackedMasks = field(default_factory=PackedMasks)
    plan: Plan = Plan()
    facts: list[dict[str, Any]] = field(default_factory=list)


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
) -> Blocks:
    """Decide on each block and carry it out before the next one is heard, in place.

    Args:
        stats: what is known before: the present keep, and what the budget asked for.
        wanted: a target that is a cost, which this cannot meet.
        hold: whether masks stay on the model, as something trains it afterwards; else they are held as bits.
        streamed: for a model whose weights are not in memory.
        done: grows as blocks are pruned; for callers that look on.
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
    done = done or Blocks()
    clock = _Clock()
    rebuilding = [r for r in recipe.recovery if r.rebuilds]
    parts = parts_of(space, layout, stages=recipe.propagation == "stages")
    final = {part.place: part for part in parts}
    masked: list[str] = []

    def act(part: Part, evidence: Mapping[tuple[str, Statistic], Tensor], passes: Passes | None) -> None:
        known = replace(stats, values={**stats.values, **evidence})
        unheard = _unheard(part.space, needs, evidence)
        mine = Space(tuple(g for g in part.space if g.name not in unheard), space.skipped, space.totals)
        choice = decided(mine, told, replace(move, budget=None), known)
        facts = {"block": part.name, "units": mine.size, "kept": sum(choice.keep.counts.values())}
        facts |= _errors(mine, choice, evidence)
        _, plan = recipe.structure.apply_(model, choice)
        done.plan += plan
        for name, mask in choice.keep.masks.items():
            if streamed is None:
                done.keep.put(name, mask)
        for group in part.space if streamed is None else ():
            if group.name in unheard:
                done.keep.put(group.name, torch.ones(group.shape, dtype=torch.bool))
        masked.extend(choice.keep.masks)
        if part is final[part.place]:
            if passes is not None:
                for recovery in rebuilding:
                    facts |= recovery.rebuild_(passes, stats.seed)
            for name in masked if not hold and not recipe.structure.cuts else ():
                found = detach_mask_(model, name)
                if streamed is None:
                    done.masks.put(name, found)
            masked.clear()
        if streamed is not None:  # it costs some five per cent, which is for those who count bytes
            give_back()
        done.facts.append(facts | clock.lap())

    batches = _mine(batches, rebuilding)
    if streamed is None:
        Stream(model, layout, task.call, batches).run(parts, needs, act, "pruned", bool(rebuilding))
    else:
        stream = Stream(model, layout, task.call, batches, streamed.folder, streamed.residency, streamed.device)
        left = [p for p in parts if p.name not in streamed.finished]
        stream.run(left, needs, streamed.acting(act), "pruned", bool(rebuilding))
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


def _unheard(space: Space, needs: Sequence[Statistic], evidence: Mapping[Any, Tensor]) -> set[str]:
    """Groups whose layer never ran, as experts that no token is sent to."""
    found = {g.name for g in space if any((leaf.name, n) not in evidence for leaf in g.leaves for n in needs)}
    if found:
        _log.warning("%s never ran on the calibration data, and stays as it is", ", ".join(sorted(found)))
    return found


@torch.no_grad()
def _errors(space: Space, choice: Choice, evidence: Mapping[Any, Tensor]) -> dict[str, float]:
    """Relative squared error of the layers' outputs, before and after repair, from second moments of their inputs.

    Of matrices only, on up to 64 rows of each, evenly spaced. Where only norms of inputs are known, inputs count as
    uncorrelated.
    """
    whole = before = after = 0.0
    for group in space:
        moments = next((evidence[group.name, s] for s in _MOMENTS if (group.name, s) in evidence), None)
        if moments is None or group.site is None or group.name not in choice.keep:
            continue
        W = group.weight
        if moments.shape[0] != W.shape[1] or group.site.tensor.dim() > 2:
            continue
        rows = torch.arange(0, len(W), max(len(W) // _ROWS, 1))[:_ROWS]
        old, stays = W[rows].double(), group.site.unfold(group.site.spread(choice.keep[group.name]))[rows]
        new = choice.values.get(group.name)
        new = old if new is None else group.site.unfold(new)[rows].double()
        whole += _energy(old, moments)
        before += _energy(old.masked_fill(stays, 0), moments)
        after += _energy(old - new.masked_fill(~stays, 0), moments)
    return {"error_before": before / whole, "error": after / whole} if whole else {}


def _energy(W: Tensor, moments: Tensor) -> float:
    W = W.to(moments.dtype)
    return float((W @ moments * W).sum() if moments.dim() == 2 else (W.square() @ moments).sum())


class _Clock:
    """Time and memory of one block after another."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def lap(self) -> dict[str, float]:
        """Seconds since the last lap, and the high-water mark of memory so far."""
        wall, cpu = time.monotonic(), time.process_time()
        told = {"wall_s": round(wall - self._wall, 3), "cpu_s": round(cpu - self._cpu, 3)}
        self._wall, self._cpu = wall, cpu
        unit = 1 if sys.platform == "darwin" else 1024
        return told | {"peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)}
