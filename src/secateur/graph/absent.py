"""The dense model with a unit not there: nothing of it runs, by the same action that takes it out for good."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .removal import removal
from .residual import Streams, Unit


@contextmanager
def absent(model: nn.Module, *, streams: Streams, unit: Unit) -> Iterator[None]:
    """A context in which a block's stand-in gives its input, and a branch's zeros. Several go together."""
    skips = removal(streams, (unit,), with_idle=False).skips.values()
    places = [(model.get_submodule(path), leaf) for path, _, leaf in (s.module.rpartition(".") for s in skips)]
    before = [parent._modules[leaf] for parent, leaf in places]
    try:
        for skip in skips:
            skip.replay_(model)
        yield
    finally:
        for (parent, leaf), module in zip(places, before, strict=True):
            parent._modules[leaf] = module
