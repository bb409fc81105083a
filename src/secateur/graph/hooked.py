"""The dense model with some units silenced by hooks: what the shorter model must equal. It shares no code with it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .capture import Call, still
from .ir import tensors_in
from .residual import Unit


def hooked_outputs(model: nn.Module, call: Call, units: Sequence[Unit]) -> list[Tensor]:
    """What the dense model gives where blocks give their input, and branches zeros; every unit still runs.

    Args:
        call: as the one that was recorded, on inputs of the same shapes.
    """
    with silenced(model, units), still(model):
        return [t.clone() for t in tensors_in(call(model))]


@contextmanager
def silenced(model: nn.Module, units: Sequence[Unit]) -> Iterator[None]:
    """A context in which blocks give their input, and branches zeros."""
    handles = []
    try:
        for unit in units:
            module = model.get_submodule(unit.module)
            before, after = _silencing(unit)
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(module.register_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def overheard(model: nn.Module, listen: Callable[[Tensor, Tensor], None], *, unit: Unit) -> Iterator[None]:
    """A context in which a function is told what a residual unit was given, and what it made of that."""
    module = model.get_submodule(unit.module)
    held: list[Tensor] = []
    where = (unit.call.gave or ()).index(unit.made[0])

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[unit.argument] if isinstance(unit.argument, int) else kwargs[unit.argument]
        held.append(given.detach().clone())

    def after(_: nn.Module, _args: Any, output: Any) -> None:
        listen(held.pop(), (output if isinstance(output, Tensor) else output[where]).detach())

    handles = [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _silencing(unit: Unit) -> tuple[Callable[..., None], Callable[..., Any]]:
    """Hooks that remember the input before the module can change it, and put it in the place of the output."""
    held: list[Tensor] = []
    gave = unit.call.gave or ()
    where = gave.index(unit.made[0])

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[unit.argument] if isinstance(unit.argument, int) else kwargs[unit.argument]
        held.append(given.clone())

    def after(_: nn.Module, _args: Any, output: Any) -> Any:
        instead = held.pop()
        if unit.zeros:
            instead = torch.zeros_like(output if isinstance(output, Tensor) else output[where])
        if isinstance(output, Tensor):
            return instead
        return tuple(instead if place == where else thing for place, thing in enumerate(output))

    return before, after
