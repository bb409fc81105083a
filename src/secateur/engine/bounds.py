"""Bounds on what a saved folder can make a constructor build: a description of a few bytes can ask for 10^9 layers."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from .reading import Layout

_SPARE_TENSORS, _TENSORS_EACH = 2_000, 20
_SPARE_ELEMENTS, _ELEMENTS_EACH = 1 << 26, 512


@dataclass(frozen=True)
class Bounds:
    """The most tensors, and elements that have memory, that a constructor may register.

    A pruned model has as many tensors as its dense architecture but for aliases; constructors set some more than once.
    The elements are those of the dense architecture, of which the pruned one may keep a small part.
    """

    tensors: int
    elements: int

    @classmethod
    def of(cls, layouts: Iterable[Layout]) -> "Bounds":
        """Those for a file of such tensors."""
        sizes = [layout.numel for layout in layouts]
        return cls(_SPARE_TENSORS + _TENSORS_EACH * len(sizes), _SPARE_ELEMENTS + _ELEMENTS_EACH * sum(sizes))

    @contextmanager
    def kept(self, *, on_meta: bool = False) -> Iterator[None]:
        """While it lasts, a module of this thread that registers more is a `ValueError`, before it fills it.

        Args:
            on_meta: no constructor can take memory, so only tensors are counted: each look at a tensor goes through
                the mode of the meta device.
        """
        owner, tensors, elements = threading.get_ident(), 0, 0

        def count(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
            nonlocal tensors, elements
            if tensor is None or threading.get_ident() != owner:
                return
            tensors += 1
            elements += 0 if on_meta or tensor.is_meta else tensor.numel()
            if tensors > self.tensors or elements > self.elements:
                raise ValueError("the architecture is far larger than what the folder stores")

        registered = (
            hooks.register_module_parameter_registration_hook(count),
            hooks.register_module_buffer_registration_hook(count),
        )
        try:
            yield
        finally:
            for hook in registered:
                hook.remove()
