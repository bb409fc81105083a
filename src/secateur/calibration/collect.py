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
    Flow,
    Forward,
    Group,
    HessianGradient,
    RecipeError,
    Relevance,
    Silenced,
    Space,
    State,
    Statistic,
    SubjectError,
    Task,
    UnitRelevance,
    batch_length,
    check_loss,
    device_of,
    owner_of,
    to_device,
)
from secateur.core.progress import report

from .blocks import listening_to_blocks
from .flow import SampleFlow
from .reference import References
from .silence import run_silenced

Key = tuple[str, Statistic]


def collect(
    model: nn.Module, space: Space, statistics: Iterable[Statistic], task: Task, batches: Iterable[Any]
) -> dict[Key, Tensor]:
    """Every statistic of every group, from one pass in eval mode.

    Weights, buffers, gradients, modes and requires_grad are as before afterwards.

    Args:
        statistics: equal ones are collected once.
        batches: of the task, finite.

    Raises:
        RecipeError: there is no batch.
        SubjectError: a gradient is asked for a frozen parameter, or inputs for a layer that has no token view.
        NumericsError: the loss is not finite.
    """
    wanted = list(dict.fromkeys(statistics))
    references = {s: References(model, space, task, s.rules) for s in wanted if isinstance(s, UnitRelevance)}
    flows = _flows(model, space, task, wanted)
    silent = [s for s in wanted if s.on is Silenced]
    states: dict[Key, State] = {(g.name, s): s.zero(g) for g in space for s in wanted}
    listeners: dict[type, Callable[[Group, Any], None]] = {}
    for kind in {s.on for s in wanted} - {Relevance, Flow, Silenced}:
        listeners[kind] = _listener(states, [s for s in wanted if s.on is kind])
    if Backward in listeners or flows:
        _check_gradients(space)
    used = 0
    with _left_as_it_was(model), ExitStack() as hooks:
        if Forward in listeners:
            for group in space:
                hooks.enter_context(_listening(model, group, listeners[Forward]))
        if BlockPass in listeners:
            hooks.enter_context(listening_to_blocks(model, space, listeners[BlockPass]))
        for batch in batches:
            batch = to_device(batch, device_of(model))
            for statistic, reference in references.items():
                reference.run(batch, _listener(states, [statistic]))
            for _, flow in flows:
                flow.take(batch)
            if silent:
                run_silenced(model, space, task, batch, _listener(states, silent))
            if listeners or not (references or flows or silent):
                _one_batch(model, space, task, batch, listeners.get(Backward))
            used += 1
            report("collecting statistics", used, 0)
        for asking, flow in flows if used else ():
            flow.run(_listener(states, asking))
    if not used:
        raise RecipeError(
            "there is no batch to collect statistics from: 0 were read",
            where=f"task {task.name!r}",
            mend="check the loader; it must give at least one batch",
        )
    return {key: key[1].value(state) for key, state in states.items() if _seen(state)}


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
    with torch.enable_grad():
        loss = task.loss(task.call(model, batch), batch)
        check_loss(loss, f"task {task.name!r}, while scores collect gradients")
        tensors = [g.site.tensor for g in space if g.site is not None]
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    found = iter(gradients)
    for group in space:
        gradient = next(found) if group.site is not None else None
        if gradient is not None:
            backward(group, Backward(gradient, batch_length(batch)))


def _check_gradients(space: Space) -> None:
    frozen = [g.name for g in space if g.site is not None and not g.site.tensor.requires_grad]
    if frozen:
        raise SubjectError(
            f"the score needs gradients, but {len(frozen)} parameters are frozen",
            where=f"parameter {frozen[0]!r}" + (f" and {len(frozen) - 1} more" if len(frozen) > 1 else ""),
            mend="call requires_grad_() on them, leave them out with exclude=[...], or use a score without gradients",
        )


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


@contextmanager
def _listening(model: nn.Module, group: Group, listen: Callable[[Group, Any], None]) -> Iterator[None]:
    if group.site is None:
        yield
        return
    module, _ = owner_of(model, group.site.name)
    view = _token_view(module)
    if group.kind == "slices" and (view is None or group.site.tensor.dim() < 2):
        yield  # of coupled units, only what has inputs is heard
        return
    if view is None:
        raise SubjectError(
            f"{type(module).__name__} has no view of its inputs as tokens",
            where=f"group {group.name!r}",
            mend="leave it out with exclude=[...], or use a score that reads weights or gradients",
        )

    def hook(_: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        listen(group, Forward(*view(inputs[0].detach(), outputs.detach()), samples=len(outputs)))

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _token_view(module: nn.Module) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """How this module's input and output become `[tokens, in]` and `[tokens, out]`; None where they do not."""
    if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
        return lambda x, y: (x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))
    if isinstance(module, nn.Conv2d) and module.groups == 1 and isinstance(module.padding, tuple):
        return lambda x, y: (_patches(module, x), y.flatten(2).transpose(1, 2).reshape(-1, y.shape[1]))
    return None


def _patches(module: nn.Conv2d, x: Tensor) -> Tensor:
    assert isinstance(module.padding, tuple)
    unfolded = nn.functional.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)
    return unfolded.transpose(1, 2).reshape(-1, unfolded.shape[1])
