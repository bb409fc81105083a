"""Tensors that have a shape and no data, on which a model runs without memory and in the time that Python takes.

Fake tensors know on which device they stand and follow all that Python asks of them. Tensors on torch's meta device
know less, and cost two thirds. What was recorded on fakes is therefore tried on the meta device where the model runs.
"""

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode


class Fakes:
    """Fake tensors; real ones that the model holds somewhere become fake when they are met."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def like(self, tensor: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        with self._mode:  # made anew, which is cheaper than a conversion
            return _empty(tensor, shape, tensor.device)

    @contextmanager
    def active(self) -> Iterator[None]:
        with self._mode, _quiet():
            yield


class Metas:
    """Tensors on the meta device; a model that names a device, or holds real tensors aside, does not run on them."""

    def like(self, tensor: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        return _empty(tensor, shape, torch.device("meta"))

    @contextmanager
    def active(self) -> Iterator[None]:
        with torch.device("meta"):
            yield


StandIns = Fakes | Metas


def _empty(tensor: Tensor, shape: Sequence[int] | None, device: torch.device) -> Tensor:
    if shape is not None and tuple(shape) != tuple(tensor.shape):
        return torch.empty(shape, dtype=tensor.dtype, device=device)
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


@contextmanager
def _quiet() -> Iterator[None]:
    """While it lasts, torch does not log what does not run on fake tensors: that is a finding, and no error."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextmanager
def without_collector(pause: bool = True) -> Iterator[None]:
    """While it lasts, Python looks for no cycles: passes make objects by the million, and each look walks over all.

    Args:
        pause: not where passes hold data, which would pile up.
    """
    pause = pause and gc.isenabled()
    if pause:
        gc.disable()
    try:
        yield
    finally:
        if pause:
            gc.enable()
