"""What the subject gives without each of its layers, one after another."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import Group, Silenced, Space, SubjectError, Task, batch_length


def run_silenced(
    model: nn.Module, space: Space, task: Task, batch: Any, listen: Callable[[Group, Silenced], None]
) -> None:
    """One batch through the whole model, and through it without each unit that can be left out.

    Raises:
        SubjectError: the outputs are no logits.
    """
    with torch.no_grad():
        whole, size = logits_of(task, model, batch), batch_length(batch)
        for group in space:
            for unit, silenced in enumerate(group.without):
                with silenced(model):
                    found = logits_of(task, model, batch)
                listen(group, Silenced(unit, len(group.without), whole, found, size))


def logits_of(task: Task, model: nn.Module, batch: Any) -> Tensor:
    """What the model gives for a batch, in float32. Raises `SubjectError` where that is no tensor of logits."""
    outputs = task.call(model, batch)
    logits = getattr(outputs, "logits", outputs)
    if not isinstance(logits, Tensor) or logits.dim() < 2 or not logits.is_floating_point():
        raise SubjectError(
            f"{type(outputs).__name__} is no tensor of logits, which distributions are made of",
            where=f"task {task.name!r}",
            mend="give a task of classification or language modelling, or use another score",
        )
    return logits.float()
