"""What models of transformers can be told to do in a way that does not depend on the values that they see."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from torch import nn


@contextmanager
def without_cache(model: nn.Module) -> Iterator[None]:
    """While it lasts, keys and values are not kept for later."""
    config = getattr(model, "config", None)
    if getattr(config, "use_cache", None) is not True:
        yield
        return
    config.use_cache = False  # type: ignore[union-attr]
    try:
        yield
    finally:
        config.use_cache = True  # type: ignore[union-attr]


def aligns_experts(model: nn.Module) -> bool:
    """Whether the model multiplies its experts by a kernel that wants rows of whole 16 bytes."""
    reads = [getattr(module, "get_experts_implementation", None) for module in model.modules()]
    return any(read is not None and read().get("") == "grouped_mm" for read in reads)


@contextmanager
def all_experts_alike(model: nn.Module) -> Iterator[None]:
    """While it lasts, the weights of chosen experts are gathered and multiplied in one product.

    Otherwise which operations run depends on which experts are chosen.
    """
    with ExitStack() as stack:
        for module in model.modules():
            read = getattr(module, "get_experts_implementation", None)
            if read is None or read().get("") in (None, "batched_mm"):
                continue
            write = cast(Any, module).set_experts_implementation
            stack.callback(write, read())
            write("batched_mm")
        yield
