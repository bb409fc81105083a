"""Records the graph of a model: on fake tensors first, which cost no memory, on real ones where that is refused."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core.errors import SubjectError, does_not_run

from .deciding import decides
from .ir import Graph, ModuleCall, Node, Place, Ref, Value, mapped, tensors_in
from .stand_ins import Fakes, StandIns, without_collector
from .swap import swap_
from .switches import all_experts_alike, without_cache
from .tap import Tap

_log = logging.getLogger(__name__)
_MOST_OPERATIONS = 100_000
Call = Callable[[Any], Any]


class Recorder(Tap):
    """Writes down every operation, and which values it took and gave.

    Args:
        remembers: whether it keeps what is decided.
    """

    def __init__(self, model: nn.Module, remembers: bool = False) -> None:
        super().__init__(model)
        self._remembers = remembers
        self.graph = Graph()
        self._known: dict[int, tuple[Callable[[], Tensor | None], int]] = {}
        self._begun: list[int] = []

    def register(self, tensor: Tensor, kind: str, name: str | None = None) -> int:
        """The value of a tensor that is there before the pass; one tensor under two names is one value."""
        return self._value(tensor, kind, name)

    def operation(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(self.graph.nodes) >= _MOST_OPERATIONS:
            raise SubjectError(
                f"the pass does more than {_MOST_OPERATIONS} operations",
                where=f"module {self.module!r}",
                mend="give a shorter example: one step of generation, a few tokens, a small picture",
            )
        taken = mapped((args, kwargs), self._reference)
        result = func(*args, **kwargs)
        outs = tuple(self._value(t, "made") for t in tensors_in(result))
        if self._remembers:
            gave = list(tensors_in(result))
            if decides(op, list(tensors_in((args, kwargs))), gave):
                self.graph.decisions[len(self.graph.nodes)] = tuple(t.clone() for t in gave)
        pointwise = torch.Tag.pointwise in getattr(func, "tags", ())
        self.graph.nodes.append(Node(op, taken[0], taken[1], outs, self.module, pointwise))
        return result

    def _enter(self, module: nn.Module, args: Any) -> None:
        super()._enter(module, args)
        self._begun.append(len(self.graph.nodes))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if self._begun:
            begin, arguments = self._begun.pop(), {**dict(enumerate(args)), **kwargs}
            given = {place: number for place, held in arguments.items() if (number := self._number(held)) is not None}
            gave, back = self._given_back(output, arguments)
            alone = not isinstance(output, tuple)
            call = ModuleCall(self.module, begin, len(self.graph.nodes), given, gave, back, alone)
            self.graph.calls.append(call)
        super()._leave(module, args, kwargs, output)

    def _given_back(
        self, output: Any, arguments: Mapping[Place, Any]
    ) -> tuple[tuple[int | None, ...] | None, tuple[Place | None, ...]]:
        things = output if type(output) is tuple else (output,)
        back = tuple(
            next((place for place, held in arguments.items() if held is thing), None) if thing is not None else None
            for thing in things
        )
        plain = all(t is None or isinstance(t, Tensor) or p is not None for t, p in zip(things, back, strict=True))
        return (tuple(map(self._number, things)) if plain else None), back

    def _number(self, thing: Any) -> int | None:
        """The value that a tensor is known as."""
        known = self._known.get(id(thing)) if isinstance(thing, Tensor) else None
        return known[1] if known is not None and known[0]() is thing else None

    def _reference(self, leaf: Any) -> Any:
        return Ref(self._value(leaf, "constant")) if isinstance(leaf, Tensor) else leaf

    def _value(self, tensor: Tensor, kind: str, name: str | None = None) -> int:
        known = self._known.get(id(tensor))
        if known is not None and known[0]() is tensor:
            return known[1]
        self.graph.values.append(Value(tuple(tensor.shape), name, kind, tensor.dtype))
        if tensor.is_floating_point():
            self.graph.coarsest = max(self.graph.coarsest, torch.finfo(tensor.dtype).eps)
        number = len(self.graph.values) - 1
        self._known[id(tensor)] = (weakref.ref(tensor), number)
        return number


def capture(model: nn.Module, call: Call) -> Graph:
    """The graph of one pass, in eval mode and without gradients; the model is left as it was.

    Args:
        call: runs the model on an example, as `lambda model: model(x)`.

    Raises:
        SubjectError: the model does not run on the example.
    """
    try:
        return _on_fakes(model, call)
    except SubjectError:
        raise
    except Exception as error:  # data-dependent Python, operations without a fake: whatever a model does
        _log.info("no pass on fake tensors (%s: %s); recording a real one", type(error).__name__, _first_line(error))
    return _on_real(model, call)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _on_real(model: nn.Module, call: Call) -> Graph:
    recorder = Recorder(model, remembers=True)
    _register_all(recorder, model)
    try:
        with still(model), recorder.open():
            output = call(model)
        return _finished(recorder, output, "real tensors")
    except SubjectError:
        raise
    except Exception as error:
        raise does_not_run(model, error, recorder.module) from error


def _on_fakes(model: nn.Module, call: Call) -> Graph:
    fakes = Fakes()
    recorder = Recorder(model)
    with still(model):
        swap_(model, fakes.like)
        held = _register_all(recorder, model)
        with without_collector(), fakes.active(), recorder.open(), given(model, standing_in(fakes, recorder)):
            output = call(model)
        del held
        return _finished(recorder, output, "fake tensors")


@contextmanager
def given(model: nn.Module, change: Callable[[Any], Any]) -> Iterator[None]:
    """While it lasts, the model is given its arguments with every leaf changed, whoever calls it."""
    handle = model.register_forward_pre_hook(
        lambda _, args, kwargs: mapped((args, dict(kwargs)), change), prepend=True, with_kwargs=True
    )
    try:
        yield
    finally:
        handle.remove()


def standing_in(stand_ins: StandIns, tap: Tap) -> Callable[[Any], Any]:
    """For `given`: tensors are replaced by ones without data, which a recorder notes as inputs."""

    def replaced(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        with tap.unseen():
            made = stand_ins.like(leaf)
        if isinstance(tap, Recorder):
            tap.register(made, "input")
        return made

    return replaced


def _register_all(recorder: Recorder, model: nn.Module) -> list[Tensor]:
    held: list[Tensor] = []
    for name, tensor in _named_tensors(model):
        recorder.register(tensor, "parameter", name)
        held.append(tensor)
    return held


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def _finished(recorder: Recorder, output: Any, rung: str) -> Graph:
    graph = recorder.graph
    graph.outputs = tuple(dict.fromkeys(recorder.register(t, "constant") for t in tensors_in(output)))
    graph.rung = rung
    return graph


@contextmanager
def still(model: nn.Module, *, as_recorded: bool = True) -> Iterator[None]:
    """Eval mode, no gradients, no cache of keys and values; whatever the pass changes in the modules is put back.

    Args:
        as_recorded: whether experts are computed the way that passes are recorded, and not the model's own.
    """
    with all_experts_alike(model) if as_recorded else nullcontext():  # around all else: it writes into shared settings
        before = [(module, dict(vars(module)), _containers(module)) for module in model.modules()]
        model.eval()
        try:
            with torch.no_grad(), without_cache(model):
                yield
        finally:
            for module, attributes, containers in before:
                vars(module).clear()
                vars(module).update(attributes)
                for held, content in containers:
                    if isinstance(held, dict):
                        held.clear()
                        held.update(content)
                    else:
                        held[:] = content


def _containers(module: nn.Module) -> list[tuple[Any, Any]]:
    """Dicts and lists that are attributes of a module, with their content: caches and hooks live there."""
    return [(held, held.copy()) for held in vars(module).values() if type(held) in (dict, list, OrderedDict)]
