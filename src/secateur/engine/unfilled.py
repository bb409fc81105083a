"""Constructors on the meta device without their random initialisations, which have nothing to fill there."""

from collections.abc import Callable, Mapping
from typing import Any

from torch.nn import init
from torch.overrides import TorchFunctionMode

_FILLING = frozenset({init.kaiming_uniform_, init.uniform_, init.normal_, init.constant_})
"""Those of `torch.nn.init` that ask modes before they compute."""


class Unfilled(TorchFunctionMode):
    """While it lasts, such an initialisation gives its tensor back as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _FILLING:
            return args[0] if args else given["tensor"]
        return func(*args, **given)
