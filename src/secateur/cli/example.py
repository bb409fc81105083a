"""The example that a command runs a model on: to count MACs, and to find what is coupled."""

import logging
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from secateur.core.errors import RecipeError

_log = logging.getLogger(__name__)
Call = Callable[[Any, Any], Any]
_MOST_ELEMENTS = 1 << 28


def example_for(model: Any, source: str, task: str | None, shape: str | None) -> tuple[Any, Call]:
    """An example, and how it becomes a call of the model; None for the example where nothing gives one.

    Args:
        source: what the user named the model by; a saved folder carries an input, an ONNX file tells its shapes.
        task: gives a sample of its test data.
        shape: "1,3,32,32", of random numbers; of token numbers, where the model begins with a table of embeddings.
    """
    from secateur.core import first_call, samples_for

    if shape is not None:
        return of_shape(model, shape), first_call
    if task is not None:
        from secateur.engine.sources import task_from

        goal = task_from(task)
        return samples_for(model, next(iter(goal.batches("test", shuffle=False)))), goal.call
    stored = Path(source) / "probe.safetensors"
    if stored.is_file():
        from safetensors.torch import load

        return load(stored.read_bytes())["inputs"][:1], first_call
    from secateur.engine.job import own_example

    return own_example(model), first_call


def of_shape(model: Any, shape: str) -> Any:
    """Inputs of this shape that the model takes: the same ones every time.

    Raises:
        RecipeError: it is no shape.
    """
    import torch

    sizes = _sizes(shape)
    rng = torch.Generator().manual_seed(0)
    rows = _rows_of_first_table(model, torch.zeros(sizes))
    if rows is not None:
        return torch.randint(rows, sizes, generator=rng)
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return torch.randn(sizes, generator=rng).to(kind)


def _sizes(shape: str) -> list[int]:
    from .parse import numbers

    sizes = numbers(shape, "--input")
    if not sizes or any(n < 1 or not n.is_integer() for n in sizes) or prod(sizes) > _MOST_ELEMENTS:
        raise RecipeError(
            f"{shape!r} is no shape of inputs", where="--input", mend="write sizes with commas: 1,3,32,32"
        )
    return [int(n) for n in sizes]


class _Entered(Exception):
    """The first layer is about to run."""


def _rows_of_first_table(model: Any, inputs: Any) -> int | None:
    """How many rows the table of embeddings has that the model begins with; None where it begins with another layer."""
    import torch
    from torch import nn

    first: list[nn.Module] = []

    def entered(module: nn.Module, _: Any) -> None:
        first.append(module)
        raise _Entered

    layers = [m for m in model.modules() if next(m.children(), None) is None and next(m.parameters(), None) is not None]
    hooks = [layer.register_forward_pre_hook(entered) for layer in layers]
    try:
        with torch.no_grad():
            model(inputs.to(next(model.parameters()).device))
    except Exception as error:  # what runs before the first layer may refuse numbers that are no tokens
        _log.debug("the first layer was looked for until %s", type(error).__name__)
    finally:
        for hook in hooks:
            hook.remove()
    if first:
        return first[0].num_embeddings if isinstance(first[0], nn.Embedding | nn.EmbeddingBag) else None
    rows = getattr(getattr(model, "config", None), "vocab_size", None)
    return rows if isinstance(rows, int) else None
