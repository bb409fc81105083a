"""Batch-norm recalibration: running statistics measured anew, because pruning shifts what flows through."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from secateur.core import Healing, RecipeError, Recovery, Task, device_of, to_device

_Norm = nn.modules.batchnorm._BatchNorm


@contextmanager
def _collecting(model: nn.Module) -> Iterator[None]:
    """Everything in eval mode but the batch norms, which average cumulatively from zero; put back afterwards."""
    modes = {m: m.training for m in model.modules()}
    norms = {m: m.momentum for m in model.modules() if isinstance(m, _Norm) and m.track_running_stats}
    before = {m: [b.clone() for b in m.buffers(recurse=False)] for m in norms}
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    except BaseException:
        for norm, buffers in before.items():
            for buffer, old in zip(norm.buffers(recurse=False), buffers, strict=True):
                buffer.copy_(old)
        raise
    finally:
        for norm, momentum in norms.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def recalibrate_bn_(model: nn.Module, batches: Iterable[Any], task: Task) -> int:
    """Reset every batch norm's running statistics and measure them by forward passes only, in place.

    Args:
        model: with or without batch norms; without, nothing is done.
        batches: what to pass through; dropout stays off.

    Returns:
        How many batches were used.

    Raises:
        RecipeError: there is a batch norm, but no batch. The old statistics stay.
    """
    if not any(isinstance(m, _Norm) and m.track_running_stats for m in model.modules()):
        return 0
    stream = iter(batches)
    first = next(stream, None)
    if first is None:
        raise RecipeError(
            "there is no batch to measure batch-norm statistics on", where="recalibrate_bn_", mend="check the loader"
        )
    used = 0
    with _collecting(model):
        for batch in (b for part in ((first,), stream) for b in part):
            task.call(model, to_device(batch, device_of(model)))
            used += 1
    return used


@dataclass(frozen=True)
class RecalibrateBN(Recovery):
    """After the last step, batch-norm statistics are measured on a share of the training data.

    Attributes:
        fraction: of the training batches, at least one batch.
    """

    fraction: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise RecipeError(
                f"fraction is {self.fraction}", where="RecalibrateBN(fraction=...)", mend="above 0, at most 1"
            )

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """The phase comes at the end."""
        return _Recalibrating(self.fraction, model, task)


class _Recalibrating(Healing):
    def __init__(self, fraction: float, model: nn.Module, task: Task) -> None:
        self._fraction, self._model, self._task = fraction, model, task

    def finish_(self) -> None:
        used = max(1, round(self._fraction * self._task.epoch_steps()))
        recalibrate_bn_(self._model, islice(self._task.batches("train", epoch=0), used), self._task)
