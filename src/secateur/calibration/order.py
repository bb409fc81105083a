"""In which order whole layers can go, one after another, so that each time the outputs change least.

The outputs of the whole subject are kept. In each round every unit that stays is left out on trial; the one without
which the outputs are nearest to those goes. A trial of a unit in block i starts from the output of block i - 1, which
the trials of a round have in common.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from secateur.core import (
    CheckpointError,
    Greedy,
    Group,
    Notes,
    NumericsError,
    Ordered,
    Space,
    Task,
    batch_length,
    first_samples,
    replaced,
)
from secateur.core.progress import report

from .passing import attended, check_finite
from .silence import logits_of

_WHAT = "order of layers"
Candidate = tuple[int, int]
"""The place of a group in the space, and of a unit in the group."""


class Asks(Protocol):
    """What a statistic says of the order that it wants."""

    @property
    def how(self) -> Greedy:
        """The samples that are looked at, and what may go when."""
        ...

    def apart(self, whole: Tensor, without: Tensor, real: Tensor | None) -> tuple[float, float]:
        """A sum of distances between two outputs, and of how many."""
        ...


class LayerOrder:
    """Takes in batches, and then finds the order.

    Args:
        space: the units are those of groups with `without` and `within`; others are passed over.
        asks: how far two outputs are apart, and which units may go when.
    """

    def __init__(self, model: nn.Module, space: Space, task: Task, asks: Any) -> None:
        self._model, self._task, self._asks = model, task, asks
        self._groups = [g for g in space if g.without and g.within]
        self._batches: list[Any] = []
        self._room: int = asks.how.samples

    def take(self, batch: Any) -> None:
        """Keep the samples of a batch, if they are among the first."""
        if self._room > 0:
            self._batches.append(first_samples(batch, self._room))
            self._room -= batch_length(self._batches[-1])

    def run(self, listen: Callable[[Group, Ordered], None], notes: Notes | None = None) -> None:
        """Find the order, and tell each group its steps.

        Args:
            notes: where rounds are noted, and taken from.

        Raises:
            NumericsError: outputs or a distance are not finite; names the unit on trial.
            CheckpointError: what was noted is of other layers.
        """
        with torch.no_grad():
            order = {unit: step for step, unit in enumerate(self._order(notes))}
        for place, group in enumerate(self._groups):
            steps = torch.tensor([order[place, i] for i in range(group.size)])
            listen(group, Ordered(steps))

    def _order(self, notes: Notes | None) -> list[Candidate]:
        units = [(place, i) for place, group in enumerate(self._groups) for i in range(group.size)]
        if not units:
            return []
        dense = [logits_of(self._task, self._model, batch) for batch in self._batches]
        for logits in dense:
            check_finite(self._model, logits, f"the output for task {self._task.name!r}")
        gone, apart = _noted(notes, units)
        rounds = min(math.ceil(round(self._asks.how.most * len(units), 9)), len(units) - 1)
        while len(gone) < rounds:
            may_go = self._may_go(units, gone)
            apart = self._apart(gone, may_go, dense, len(units))
            gone.append(min(may_go, key=lambda unit: (apart[unit], unit)))
            if notes is not None and notes.due():
                notes.write(_WHAT, {"gone": gone, "apart": apart})
        left = [unit for unit in units if unit not in gone]
        return gone + sorted(left, key=lambda unit: (apart.get(unit, math.inf), unit))

    def _may_go(self, units: list[Candidate], gone: list[Candidate]) -> list[Candidate]:
        """Who is on trial in this round: no block of the front for a while, and no last one of its class."""
        how, stay = self._asks.how, [unit for unit in units if unit not in gone]
        blocks = list(dict.fromkeys(self._block(unit) for unit in units))
        front = set(blocks[: int(how.front * len(blocks))]) if len(gone) <= int(how.front * len(units)) else set()
        left = Counter(self._class(unit) for unit in stay)
        spare = stay if how.force else [unit for unit in stay if left[self._class(unit)] > 1] or stay
        return [unit for unit in spare if self._block(unit) not in front] or spare

    def _apart(
        self, gone: list[Candidate], may_go: list[Candidate], dense: list[Tensor], units: int
    ) -> dict[Candidate, float]:
        """How far the outputs are from the dense ones without what went and each candidate."""
        sums = {unit: [0.0, 0.0] for unit in may_go}
        with ExitStack() as silent:
            for unit in gone:
                silent.enter_context(self._without(unit))
            for number, (batch, whole) in enumerate(zip(self._batches, dense, strict=True)):
                made = self._made(batch)
                for unit in may_go:
                    ran = list(made)
                    earlier = ran[: ran.index(self._block(unit))] if self._block(unit) in made else []
                    with giving_back(self._model, {path: made[path] for path in earlier}), self._without(unit):
                        found = logits_of(self._task, self._model, batch)
                    total, count = self._measured(unit, whole, found, batch)
                    sums[unit] = [sums[unit][0] + total, sums[unit][1] + count]
                report("ordering layers", len(gone) * len(dense) + number + 1, units * len(dense))
        return {unit: total / max(count, 1.0) for unit, (total, count) in sums.items()}

    def _measured(self, unit: Candidate, whole: Tensor, found: Tensor, batch: Any) -> tuple[float, float]:
        total, count = self._asks.apart(whole, found, attended(batch))
        if not math.isfinite(total):
            raise NumericsError(
                f"without it the outputs are {total} from those of the whole model",
                where=f"layer {self._groups[unit[0]].names[unit[1]]!r}, on trial in task {self._task.name!r}",
                mend="exclude=[...] with its name, another distance, or a model in float32",
            )
        return total, count

    def _made(self, batch: Any) -> dict[str, Any]:
        """What each block gives back at present, in the order in which they run."""
        made: dict[str, Any] = {}
        handles = [
            self._model.get_submodule(path).register_forward_hook(
                lambda _module, _args, output, path=path: made.__setitem__(path, copied(output))
            )
            for path in {path: None for group in self._groups for path in group.within}
        ]
        try:
            self._task.call(self._model, batch)
        finally:
            for handle in handles:
                handle.remove()
        return made

    def _without(self, unit: Candidate) -> Any:
        return self._groups[unit[0]].without[unit[1]](self._model)

    def _block(self, unit: Candidate) -> str:
        return self._groups[unit[0]].within[unit[1]]

    def _class(self, unit: Candidate) -> Candidate:
        labels = self._groups[unit[0]].labels
        return unit[0], 0 if labels is None else int(labels[unit[1]])


def _noted(notes: Notes | None, units: list[Candidate]) -> tuple[list[Candidate], dict[Candidate, float]]:
    """What went in earlier rounds, in that order, and the distances of the last one."""
    state = None if notes is None else notes.read(_WHAT)
    if state is None:
        return [], {}
    try:
        gone, apart = [tuple(unit) for unit in state["gone"]], {tuple(u): float(d) for u, d in state["apart"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _misfit(repr(error)) from error
    if len(set(gone)) < len(gone) or not {*gone, *apart} <= set(units):
        raise _misfit("it speaks of other layers")
    return gone, apart


def _misfit(why: str) -> CheckpointError:
    mend = "delete the run folder to start again"
    return CheckpointError(f"what was noted of the order of layers does not fit: {why}", where="LayerOrder", mend=mend)


def giving_back(model: nn.Module, outputs: Mapping[str, Any]) -> AbstractContextManager[None]:
    """A context in which modules compute nothing and give back what is told of them, a copy at each call."""

    def giving(output: Any) -> Callable[..., Any]:
        return lambda *_, **__: copied(output)

    return replaced(model, {path: giving(output) for path, output in outputs.items()})


def copied(output: Any) -> Any:
    """Tensors of a nested output as clones, because a model may change them in place."""
    if isinstance(output, Tensor):
        return output.clone()
    if type(output) in (tuple, list):
        return type(output)(copied(thing) for thing in output)
    return output
