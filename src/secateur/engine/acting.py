"""Deciding on one part of a model after another, and finishing a block whose last part is done."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.calibration.stream import Part
from secateur.core import Choice, Move, Passes, Plan, Recipe, Space, Statistic, Stats
from secateur.core.masks import detach_mask_
from secateur.core.memory import give_back
from secateur.core.packed import PackedMasks
from secateur.core.strands import counts

from .block_facts import Clock, errors
from .decide import decided
from .journal import Journal

_log = logging.getLogger(__name__)


@dataclass
class Blocks:
    """What pruning block by block did; `masks` are in the tensors' own shapes, of those that hold no more."""

    keep: PackedMasks = field(default_factory=PackedMasks)
    masks: PackedMasks = field(default_factory=PackedMasks)
    plan: Plan = Plan()
    facts: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        keep: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        plan: Plan,
        facts: Iterable[Mapping[str, Any]],
    ) -> None:
        """What one more block did."""
        for held, new in ((self.keep, keep), (self.masks, masks)):
            for name, mask in new.items():
                held.put(name, mask)
        self.plan += plan
        self.facts += map(dict, facts)


class Acting:
    """Acts on the parts of a model in their order, in place.

    Args:
        recipe: whose budget knows how many units stay in each group.
        move: without a budget of its own.
        stats: what is known before.
        needs: what is heard of each part.
        parts: all of them.
        hold: whether masks stay on the model.
        in_memory: whether keeps are held too; else they can be read off what is written.
        done: grows with each part.
        journal: where finished blocks are noted, and taken from.

    Attributes:
        finished: where blocks are that an earlier process has finished.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        move: Move,
        stats: Stats,
        needs: Sequence[Statistic],
        parts: Sequence[Part],
        hold: bool,
        in_memory: bool,
        done: Blocks,
        journal: Journal | None = None,
    ) -> None:
        self._model, self._recipe, self._move, self._stats, self._needs = model, recipe, move, stats, needs
        self._hold, self._in_memory, self._done, self._journal = hold, in_memory, done, journal
        self._last = {part.place: part for part in parts}
        self.rebuilding = [r for r in recipe.recovery if r.rebuilds]
        places = list(dict.fromkeys(part.place for part in parts))
        self.finished = frozenset(places[: 0 if journal is None else journal.found])
        self._clock = Clock()
        self._begin()

    def _begin(self) -> None:
        """Another block begins."""
        self._masked: list[str] = []
        self._whole: list[str] = []
        self._touched: set[str] = set()
        self._cut: list[Choice] = []
        self._facts, self._plan = len(self._done.facts), Plan()

    def _take_back_(self, part: Part) -> None:
        """What an earlier process made of a block."""
        assert self._journal is not None
        state = self._journal.restored_(part.place)
        self._done.add(state["keep"], {} if self._hold else state["masks"], state["plan"], state["facts"])
        self._begin()

    def __call__(self, part: Part, evidence: Mapping[tuple[str, Statistic], Tensor], passes: Passes | None) -> None:
        """Decide on a part and carry it out; after the last one of a block, heal and note it.

        The last part of a block that is `finished` puts it back, and nothing is decided.
        """
        if part.place in self.finished:
            if part is self._last[part.place]:
                self._take_back_(part)
            return
        give_back()  # what hearing left, so that the peak is that of hearing or of deciding, not of both
        facts = {"block": part.name} | self._decide(part, evidence)
        ends = part is self._last[part.place]
        if ends:
            facts |= self._end(passes)
        give_back()
        self._done.facts.append(facts | self._clock.lap())
        if ends:
            self._note(part)
            self._begin()

    def _decide(self, part: Part, evidence: Mapping[tuple[str, Statistic], Tensor]) -> dict[str, Any]:
        known = replace(self._stats, values={**self._stats.values, **evidence})
        unheard = _unheard(part.space, self._needs, evidence)
        mine = Space(tuple(g for g in part.space if g.name not in unheard), part.space.skipped, part.space.totals)
        choice = decided(mine, self._recipe, self._move, known)
        lost = errors(mine, choice, evidence)
        _, plan = self._recipe.structure.apply_(self._model, choice)
        whole = {g.name: torch.ones(g.shape, dtype=torch.bool) for g in part.space if g.name in unheard}
        self._done.add({**choice.keep.masks, **whole} if self._in_memory else {}, {}, plan, ())
        self._plan += plan
        self._masked += choice.keep.masks
        self._whole += whole
        self._touched |= {*choice.keep.masks, *choice.values}
        if self._recipe.structure.cuts and self._journal is not None:
            self._cut.append(choice)
        return {"units": mine.size, "kept": sum(counts(mine, choice.keep).values()), **lost}

    def _end(self, passes: Passes | None) -> dict[str, Any]:
        """Heal a block, and take its masks off the model where nothing needs them there."""
        facts: dict[str, Any] = {}
        if passes is not None:
            for recovery in self.rebuilding:
                facts |= recovery.rebuild_(passes, self._stats.seed)
        for name in self._masked if not self._hold and not self._recipe.structure.cuts else ():
            mask = detach_mask_(self._model, name)
            if self._in_memory:
                self._done.masks.put(name, mask)
        return facts

    def _note(self, part: Part) -> None:
        if self._journal is not None:
            done, path = self._done, part.name if part.place[1] >= 0 else None
            keep = {name: done.keep[name] for name in (*self._masked, *self._whole)}
            masks = {name: done.masks[name] for name in self._masked if name in done.masks}
            facts = done.facts[self._facts :]
            self._journal.finish(part.place, path, self._touched, keep, masks, facts, self._plan, self._cut)


def _unheard(space: Space, needs: Sequence[Statistic], evidence: Mapping[Any, Tensor]) -> set[str]:
    """Groups whose layers never ran, as experts that no token is sent to; of coupled units biases have no inputs."""
    heard = {name for name, _ in evidence}
    found = {g.name for g in space if needs and heard.isdisjoint(leaf.name for leaf in g.leaves)}
    if found:
        _log.warning("%s never ran on the calibration data, and stays as it is", ", ".join(sorted(found)))
    return found
