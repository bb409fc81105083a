"""One pass over batches that feeds every statistic that any score asked for."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import (
    Backward,
    BalancedGradient,
    BlockPass,
    Ends,
    Flow,
    Forward,
    Group,
    HessianGradient,
    Notes,
    Ordered,
    Passed,
    RecipeError,
    Relevance,
    SampleBackward,
    Silenced,
    Space,
    State,
    Statistic,
    Task,
    UnitRelevance,
    device_of,
    to_device,
)
from secateur.core.progress import report

from .blocks import listening_to_blocks
from .ending import Ending
from .flow import SampleFlow
from .gradients import check_gradients, run_backward, run_per_sample, tell_memory
from .listen import Ear, Key, token_mask
from .order import LayerOrder
from .passing import run_passing
from .reference import References
from .silence import run_silenced

_APART = {Relevance, Flow, Silenced, SampleBackward, Forward, Passed, Ends, Ordered}  # heard apart from the pass


def collect(
    model: nn.Module,
    space: Space,
    statistics: Iterable[Statistic],
    task: Task,
    batches: Iterable[Any],
    notes: Notes | None = None,
) -> dict[Key, Tensor]:
    """Every statistic of every group, from one pass in eval mode.

    Weights, buffers, gradients, modes and requires_grad are as before afterwards.

    Args:
        statistics: equal ones are collected once.
        batches: of the task, finite.
        notes: where an order of layers, of which there are many trials, notes how far it has come.

    Raises:
        RecipeError: there is no batch.
        SubjectError: a gradient is asked for a frozen parameter, or inputs for a layer that has no token view.
        NumericsError: the loss is not finite.
    """
    wanted = list(dict.fromkeys(statistics))
    references = {s: References(model, space, task, s.rules) for s in wanted if isinstance(s, UnitRelevance)}
    flows = _flows(model, space, task, wanted)
    silent = [s for s in wanted if s.on is Silenced]
    single = [s for s in wanted if s.on is SampleBackward]
    passing: dict[type, list[Statistic]] = {kind: [s for s in wanted if s.on is kind] for kind in (Passed, Ends)}
    orders = [(s, LayerOrder(model, space, task, s)) for s in wanted if s.on is Ordered]
    states: dict[Key, State] = {(g.name, s): s.zero(g) for g in space for s in wanted if s.on is not Forward}
    listeners: dict[type, Callable[[Group, Any], None]] = {}
    for kind in {s.on for s in wanted} - _APART:
        listeners[kind] = _listener(states, [s for s in wanted if s.on is kind])
    if Backward in listeners or single or flows:
        check_gradients(space)
    if Backward in listeners or single:
        tell_memory(model, space, sum(s.on in (Backward, SampleBackward) for s in wanted))
    ear = Ear(space, wanted)
    ending = Ending(model, ear)
    used = 0
    with _left_as_it_was(model):
        for batch in batches:
            batch = to_device(batch, device_of(model))
            ear.next_batch(token_mask(batch))
            for statistic, reference in references.items():
                reference.run(batch, _listener(states, [statistic]))
            for _, flow in flows:
                flow.take(batch)
            if silent:
                run_silenced(model, space, task, batch, _listener(states, silent))
            if single:
                run_per_sample(model, space, task, batch, _listener(states, single))
            if any(passing.values()):
                heard = {kind: _listener(states, who) for kind, who in passing.items() if who}
                run_passing(model, space, task, batch, heard)
            for _, order in orders:
                order.take(batch)
            alone = not (references or flows or silent or single or any(passing.values()) or orders)
            if listeners or ear.statistics or alone:
                with ExitStack() as hooks:  # only here: other statistics run the model as well
                    hooks.enter_context(ear.listening(model))
                    if BlockPass in listeners:
                        hooks.enter_context(listening_to_blocks(model, space, listeners[BlockPass]))
                    if ear.statistics and not listeners:
                        hooks.enter_context(ending.passing())
                    _one_batch(model, space, task, batch, listeners.get(Backward))
            used += 1
            report("collecting statistics", used, 0)
        for asking, flow in flows if used else ():
            flow.run(_listener(states, asking))
        for wish, order in orders if used else ():
            order.run(_listener(states, [wish]), notes if len(orders) == 1 else None)
    if not used:
        raise RecipeError(
            "there is no batch to collect statistics from: 0 were read",
            where=f"task {task.name!r}",
            mend="check the loader; it must give at least one batch",
        )
    return ear.values() | {key: key[1].value(state) for key, state in states.items() if _seen(state)}


def _flows(
    model: nn.Module, space: Space, task: Task, wanted: list[Statistic]
) -> list[tuple[list[Statistic], SampleFlow]]:
    """One pass for all statistics of the same samples, and who asks for it."""
    asking = [s for s in wanted if isinstance(s, BalancedGradient | HessianGradient)]
    found = []
    for samples in dict.fromkeys(s.samples for s in asking):
        mine: list[Statistic] = [s for s in asking if s.samples == samples]
        twice = any(isinstance(s, HessianGradient) for s in mine)
        found.append((mine, SampleFlow(model, space, task, samples, twice)))
    return found


def _seen(state: State) -> bool:
    """Whether any event arrived: a sum that was never added to is still the scalar zero."""
    return any(t.dim() > 0 for t in state.values())


def _listener(states: dict[Key, State], statistics: list[Statistic]) -> Callable[[Group, Any], None]:
    def listen(group: Group, event: Any) -> None:
        for statistic in statistics:
            states[group.name, statistic] = statistic.update(states[group.name, statistic], event)

    return listen


def _one_batch(
    model: nn.Module, space: Space, task: Task, batch: Any, backward: Callable[[Group, Any], None] | None
) -> None:
    if backward is None:
        with torch.no_grad():
            task.call(model, batch)
        return
    run_backward(model, space, task, batch, backward)


@contextmanager
def _left_as_it_was(model: nn.Module) -> Iterator[None]:
    modes = {m: m.training for m in model.modules()}
    model.eval()
    # cuDNN's recurrent layers cannot be differentiated in eval mode
    with torch.backends.cudnn.flags(enabled=not any(isinstance(m, nn.RNNBase) for m in modes)):
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
