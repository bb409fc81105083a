"""Modules that compute something else for a while."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def replaced(model: nn.Module, forwards: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """A context in which the modules of these paths compute something else; forwards of their own return after it."""
    modules = [model.get_submodule(path) for path in forwards]
    before = [vars(module).get("forward") for module in modules]
    try:
        for module, forward in zip(modules, forwards.values(), strict=True):
            module.forward = forward
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            if own is None:
                vars(module).pop("forward", None)
            else:
                module.forward = own
