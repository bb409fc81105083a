"""What modules give as they run, for recoveries that compare a model with its teacher."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def recorder(seen: dict[str, Tensor], name: str, when: Callable[[], bool]) -> Callable[..., None]:
    """A forward hook that puts a module's output, the first of a tuple, into `seen`.

    Args:
        when: asked at each pass; False leaves it alone.
    """

    def record(_: nn.Module, __: Any, output: Any) -> None:
        if when():
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor):
                seen.pop(name, None)  # the order is that of the pass
                seen[name] = first

    return record


def always() -> bool:
    """Every pass counts: a teacher runs in eval mode."""
    return True


def while_training(model: nn.Module) -> Callable[[], bool]:
    """Only passes of training count, and none of measuring in between."""
    return lambda: model.training
