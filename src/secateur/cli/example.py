"""The example input that `inspect` counts MACs with."""

from pathlib import Path
from typing import Any


def example_inputs(model: str, task: str | None, shape: str | None) -> Any:
    """A sample of the task, zeros of the shape, or the input that a saved folder carries; None without any."""
    import torch

    from secateur.core import first_sample

    from .parse import numbers

    if shape is not None:
        return torch.zeros([int(n) for n in numbers(shape, "--input")])
    if task is not None:
        from secateur.engine.sources import task_from

        return first_sample(next(iter(task_from(task).batches("test", shuffle=False))))
    stored = Path(model) / "probe.safetensors"
    if stored.is_file():
        from safetensors.torch import load

        return load(stored.read_bytes())["inputs"][:1]
    return None
