"""A pass that ends where nothing more is heard.

What blocks are given does not depend on the head behind them, nor what the last layer of a block is given on what it
makes of it: a pass that only listens needs neither.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import torch
from torch import Tensor, nn

from .listen import Ear

_FOREIGN = ("torch.distributed", "torch._dynamo", "torch.jit")


class _End(Exception):
    """All that listens has been heard."""


class Ending:
    """Ends passes of a module at the last layer that is heard, or, where its outputs matter, before what follows it.

    The first pass in which everything that listens is heard is a whole one. Later ones end where all of it has been
    heard again; those in which that never happens are whole ones, too, such as those in which some expert is sent no
    token. Where a layer is heard more than once, as in loops and in generation, no pass ends early, because another
    one may have more rounds; a layer that ran once is taken to run no second time. What contains the place must be
    plain, because hooks on it, another `forward` of its own or a wrapper may have something to do when it ends.

    Args:
        root: what is run.
        ear: listens to layers in it; its `next_batch` is called before each pass.
    """

    def __init__(self, root: nn.Module, ear: Ear) -> None:
        self._root, self._ear = root, ear
        self._whole: Counter[str] | None = None
        self._at: nn.Module | None = None
        self._takes = False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """One pass, which may end early: without an error, and without giving anything."""
        if self._whole is not None:
            with ExitStack() as hooks, suppress(_End):
                if self._at is not None:
                    hooks.callback(self._at.register_forward_pre_hook(self._end_here).remove)
                yield
            return
        entered: list[tuple[nn.Module, int]] = []

        def note(module: nn.Module, _: object) -> None:
            entered.append((module, self._ear.calls.total()))

        with ExitStack() as hooks:
            for module in self._root.modules():
                hooks.callback(module.register_forward_pre_hook(note).remove)
            yield
        if self._ear.heard_all:
            self._whole = self._ear.calls.copy()
            if self._whole.total() == len(self._whole):
                self._place(entered)

    def _place(self, entered: list[tuple[nn.Module, int]]) -> None:
        """Where passes can end from now on."""
        last = self._ear.last
        if last is not None and self._ear.can_take(last) and self._is_plain_around(last):
            self._at, self._takes = last, True
            return
        heard = self._ear.calls.total()
        after = (module for module, calls in entered if calls == heard)
        self._at = next((module for module in after if self._is_plain_around(module)), None)

    def _end_here(self, module: nn.Module, inputs: tuple[object, ...]) -> None:
        own = self._ear.names_at(module) if self._takes else ()
        first = inputs[0] if inputs else None
        if self._ear.calls + Counter(own) != self._whole or not isinstance(first, Tensor) or not _is_finite(first):
            return  # a whole pass will tell what is not finite
        if self._takes:
            self._ear.take(module, first)
        raise _End

    def _is_plain_around(self, module: nn.Module) -> bool:
        around = [m for m in self._root.modules() if m is not module and any(own is module for own in m.modules())]
        return all(
            not m._forward_hooks
            and not m._forward_pre_hooks
            and "forward" not in vars(m)
            and not type(m).__module__.startswith(_FOREIGN)
            for m in around
        )


def _is_finite(x: Tensor) -> bool:
    return not x.is_floating_point() or bool(x.sum(dtype=torch.float32).isfinite())
