"""Gradients of the loss for statistics: of a batch, of each of its samples, and what memory they take."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from secateur.core import Backward, Group, SampleBackward, Space, SubjectError, Task, batch_length, check_loss
from secateur.core.task import device_of, picked_samples

_log = logging.getLogger(__name__)
Listen = Callable[[Group, Any], None]


def run_backward(model: nn.Module, space: Space, task: Task, batch: Any, listen: Listen) -> None:
    """One batch through the model and back; `Backward` for each group whose tensor the loss depends on."""
    for group, gradient in _gradients(model, space, task, batch):
        listen(group, Backward(gradient, batch_length(batch)))


def run_per_sample(model: nn.Module, space: Space, task: Task, batch: Any, listen: Listen) -> None:
    """Each sample of a batch alone through the model and back; `SampleBackward` for each."""
    for number in range(batch_length(batch)):
        one = picked_samples(batch, torch.tensor([number]))
        for group, gradient in _gradients(model, space, task, one):
            listen(group, SampleBackward(gradient))


def _gradients(model: nn.Module, space: Space, task: Task, batch: Any) -> Iterator[tuple[Group, Tensor]]:
    with torch.enable_grad():
        loss = task.loss(task.call(model, batch), batch)
        check_loss(loss, f"task {task.name!r}, while scores collect gradients")
        groups = [(g, g.site.tensor) for g in space if g.site is not None]
        gradients = torch.autograd.grad(loss, [tensor for _, tensor in groups], allow_unused=True)
    return ((g, gradient) for (g, _), gradient in zip(groups, gradients, strict=True) if gradient is not None)


def check_gradients(space: Space) -> None:
    """Raise `SubjectError` where a group's parameter is frozen; names it."""
    frozen = [g.name for g in space if g.site is not None and not g.site.tensor.requires_grad]
    if frozen:
        raise SubjectError(
            f"the score needs gradients, but {len(frozen)} parameters are frozen",
            where=f"parameter {frozen[0]!r}" + (f" and {len(frozen) - 1} more" if len(frozen) > 1 else ""),
            mend="call requires_grad_() on them, leave them out with exclude=[...], or use a score without gradients",
        )


def gradient_bytes(space: Space, statistics: int) -> int:
    """What gradients take beside the weights: one for each tensor in its dtype, and a float32 sum per statistic."""
    tensors = {id(g.site.tensor): g.site.tensor for g in space if g.site is not None}
    return sum(t.numel() * (t.element_size() + 4 * statistics) for t in tensors.values())


def tell_memory(model: nn.Module, space: Space, statistics: int) -> None:
    """Say before the first pass what gradients will take; a warning where less memory is free."""
    need, free = gradient_bytes(space, statistics), free_bytes(device_of(model))
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    told = f"gradients take {_size(need)} beside weights of {_size(weights)}, and activations of a batch"
    if free is not None and need > free:
        mend = "exclude groups, or take a smaller dtype or a score without gradients"
        _log.warning("%s; %s are free on %s: %s", told, _size(free), device_of(model), mend)
    else:
        _log.info("%s", told)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device; None where nobody tells."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available) if device.type == "cpu" else None


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
