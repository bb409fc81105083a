"""A model whose weights lie on disk: each block is in memory while it runs, and nothing else is."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import CheckpointError
from secateur.core.memory import give_back

from .shards import Shards
from .stream import Residency

Source = Callable[[str], Tensor]


class OnDisk(Residency):
    """Reads a block's weights before it runs and forgets them afterwards; likewise what runs outside blocks.

    Args:
        model: with parameters on the meta device.
        source: the stored tensor of a parameter's name.
        dtype: in which parts run.
        done: is called with a block's path and its tensors before they are forgotten.
    """

    def __init__(
        self,
        model: nn.Module,
        source: Source,
        dtype: torch.dtype,
        device: torch.device,
        done: Callable[[str, Mapping[str, Tensor]], None],
    ) -> None:
        self._model, self._source, self._dtype, self._device, self._done = model, source, dtype, device, done

    @contextmanager
    def block(self, path: str) -> Iterator[None]:
        named = _on_meta(self._model.get_submodule(path), path)
        with self._there(named):
            yield
            self._done(path, named)

    @contextmanager
    def around(self) -> Iterator[None]:
        handles: list[Any] = []
        for path, module in self._model.named_modules():
            handles += self._while_it_runs(path, module)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _while_it_runs(self, path: str, module: nn.Module) -> list[Any]:
        """Hooks by which a module's own tensors are there during its forward."""
        running: list[AbstractContextManager[None]] = []

        def enter(*_: object) -> None:
            own = {f"{path}.{n}" if path else n: p for n, p in module.named_parameters(recurse=False) if p.is_meta}
            running.append(self._there(own))
            running[-1].__enter__()

        def leave(*_: object) -> None:
            if running:
                running.pop().__exit__(None, None, None)

        if not any(True for _ in module.named_parameters(recurse=False)):
            return []
        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]

    @contextmanager
    def _there(self, named: Mapping[str, Tensor]) -> Iterator[None]:
        """These meta tensors hold their values meanwhile; they stay the same objects."""
        held = [(tensor, self._read(name, tensor.shape, tensor.requires_grad)) for name, tensor in named.items()]
        for tensor, value in held:
            _swap(tensor, value)
        try:
            yield
        finally:
            while held:
                _swap(*held.pop())
            give_back()

    def _read(self, name: str, shape: torch.Size, trained: bool) -> nn.Parameter:
        stored = self._source(name).to(self._device, self._dtype)
        if stored.shape != shape:
            raise CheckpointError(
                f"tensor {name!r} is stored as {tuple(stored.shape)}, and the model has {tuple(shape)}",
                where=type(self._model).__name__,
                mend="give the folder of this very model",
            )
        return nn.Parameter(stored, requires_grad=trained)


def _swap(a: Tensor, b: Tensor) -> None:
    torch.utils.swap_tensors(a, b)  # type: ignore[no-untyped-call]


def _on_meta(module: nn.Module, path: str) -> dict[str, Tensor]:
    return {f"{path}.{name}": p for name, p in module.named_parameters() if p.is_meta}


def stored_names(model: nn.Module, shards: Shards) -> dict[str, str]:
    """Under which name each parameter is stored; tied ones under one of theirs.

    Raises:
        CheckpointError: one is stored under no name.
    """
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    found: dict[str, str] = {}
    for names in groups.values():
        stored = next((n for n in names if n in shards), None)
        if stored is None:
            raise CheckpointError(
                f"tensor {names[0]!r} is not stored under its name",
                where=str(shards.folder),
                mend="prune it in memory, without memory=...: this family is stored otherwise than it runs",
            )
        found |= dict.fromkeys(names, stored)
    return found
