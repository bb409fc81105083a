"""A pass of the smaller model on fake tensors, compared with what the labels say of every shape.

Weights of the right shape are not enough: Python keeps sizes too, as attributes that end up as constants in a `view` or
a `split`. Where the pass goes astray, an attribute of the module that ran is looked for whose value is the old constant;
the pass then shows whether it was the right one. Nothing is guessed: what is not proven by a whole pass is not cut.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice, product
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from secateur.core.plan import Mend, mend_sizes_

from .align import Alignment
from .capture import Call, Faking, fake_like, quiet, still, tensors_in
from .constants import constants
from .coupling import Coupling, Gone
from .ir import Node
from .tap import Tap

_MOST_TRIES = 24
Holder = tuple[str, int | None]
"""An attribute of a module, and the place in it where it is a sequence."""


class Misfit(Exception):
    """The pass of the smaller model left the recorded path."""

    def __init__(self, node: int, why: str) -> None:
        super().__init__(why)
        self.node, self.why = node, why


@dataclass(frozen=True)
class Mismatch:
    """What no attribute explains: where the forward function keeps a size."""

    node: int
    module: str
    op: str
    why: str


class _Checker(Tap):
    def __init__(self, model: nn.Module, coupling: Coupling, shape: Callable[[int], tuple[int, ...]]) -> None:
        super().__init__(model)
        self._coupling, self._shape = coupling, shape
        self._alignment = Alignment(coupling.graph)
        self.at = 0

    def operation(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        number = self._alignment.number(self.module, op)
        if number is None:
            return func(*args, **kwargs)
        self.at = number
        node = self._coupling.graph.nodes[number]
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            raise Misfit(number, (str(error).splitlines() or [type(error).__name__])[0][:200]) from error
        for value, tensor in zip(node.outs, tensors_in(result), strict=False):
            wanted = self._shape(value)
            if tuple(tensor.shape) != wanted:
                raise Misfit(number, f"it gave shape {tuple(tensor.shape)} instead of {wanted}")
        return result


class Trial:
    """Trial passes of one model and one set of removed factors.

    Args:
        model: as it is; it is left so.
        call: runs the model on the recorded example.
    """

    def __init__(self, model: nn.Module, call: Call, coupling: Coupling, gone: Gone) -> None:
        self._model, self._call, self._coupling, self._gone = model, call, coupling, gone
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._classes = {id(m): type(m) for m in self._modules.values()}
        self._shape = cache(lambda value: coupling.shape(value, gone))

    def mended(self) -> list[Mend] | Mismatch:
        """The attributes to change, or what no attribute explains."""
        chosen: dict[tuple[str, str], Mend] = {(m.module, m.attribute): m for m in self._known()}
        while True:
            astray = self._run(chosen.values())
            if astray is None:
                return list(chosen.values())
            node = self._coupling.graph.nodes[astray.node]
            for mends in islice(self._guesses(astray.node), _MOST_TRIES):
                tried = chosen | {(m.module, m.attribute): m for m in mends}
                again = self._run(tried.values())
                if again is None or again.node > astray.node:
                    chosen = tried
                    break
            else:
                return Mismatch(astray.node, node.module, node.op, astray.why)

    def _run(self, mends: Sequence[Mend] | Any) -> Misfit | None:
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        checker = _Checker(self._model, self._coupling, self._shape)
        try:
            with still(self._model), self._resized(fake):
                for mend in mends:
                    mend.replay_(self._model)
                with fake, checker.open(), quiet():
                    self._call(Faking(self._model, fake, checker))
        except Misfit as misfit:
            return misfit
        except Exception as error:
            return Misfit(min(checker.at, len(self._coupling.graph.nodes) - 1), str(error)[:200])
        finally:
            for module in self._modules.values():
                if type(module) is not self._classes[id(module)]:
                    module.__class__ = self._classes[id(module)]
        return None

    @contextmanager
    def _resized(self, fake: FakeTensorMode) -> Iterator[None]:
        values = self._coupling.graph.parameters()
        shapes = {name: self._shape(v) for name, v in values.items()}
        made: dict[int, Tensor] = {}
        names = [*self._model.named_parameters(remove_duplicate=False)]
        names += [*self._model.named_buffers(remove_duplicate=False)]
        of = {id(t): shapes[n] for n, t in names if n in shapes}
        for module in self._modules.values():
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is not None:
                        if id(tensor) not in made:
                            made[id(tensor)] = fake_like(tensor, fake, of.get(id(tensor)))
                        held[name] = made[id(tensor)]  # type: ignore[assignment]
            if isinstance(module, nn.RNNBase):
                vars(module)["_flat_weights"] = [getattr(module, n) for n in module._flat_weights_names]  # type: ignore[attr-defined]
            mend_sizes_(module)
        yield

    def _known(self) -> Iterator[Mend]:
        """Attributes whose meaning is known by their operation."""
        for node in self._coupling.graph.nodes:
            attribute = {"conv": "groups", "conv_transpose": "groups", "group_norm": "num_groups"}.get(node.op)
            module = self._modules.get(node.module)
            if node.op == "multi_head_attention" and isinstance(module, nn.MultiheadAttention):
                yield from self._packed(node, module)
            if attribute is None or module is None or not isinstance(getattr(module, attribute, None), int):
                continue
            for old, new in constants(node, self._coupling, self._gone):
                if getattr(module, attribute) == old != new:
                    yield Mend(node.module, attribute, new)

    def _packed(self, node: Node, module: nn.MultiheadAttention) -> Iterator[Mend]:
        weight = self._coupling.graph.parameters()[f"{node.module}.out_proj.weight"]
        outer, inner = self._coupling.shape(weight, self._gone)
        dense = self._coupling.flow.shape(weight)
        if (outer, inner) != dense:
            yield Mend(node.module, "num_heads", inner // module.head_dim)

    def _guesses(self, number: int) -> Iterator[list[Mend]]:
        """Assignments of changed constants of a node to attributes, near modules first; alike modules alike."""
        node = self._coupling.graph.nodes[number]
        pairs = [(old, new) for old, new in constants(node, self._coupling, self._gone) if old != new]
        if not pairs:
            return
        path = node.module
        while True:
            # some sizes are read from shapes, and need nothing: as few attributes as possible are changed
            choices = [[None, *_holders(self._modules[path], old)] for old, _ in pairs]
            for chosen in sorted(islice(product(*choices), 4096), key=_cost):
                mends = self._everywhere(node, path, chosen)
                if mends:
                    yield mends
            if not path:
                return
            path = path.rpartition(".")[0]

    def _everywhere(self, node: Node, path: str, chosen: Sequence[Holder | None]) -> list[Mend]:
        """The same attributes for every module of the class in which the same constants of the same operation change."""
        tail = node.module[len(path) :]
        kind = type(self._modules[path])
        found: dict[tuple[str, str], Mend] = {}
        for other in self._coupling.graph.nodes:
            at = other.module[: len(other.module) - len(tail)] if other.module.endswith(tail) else None
            if other.op != node.op or at is None or type(self._modules.get(at)) is not kind:
                continue
            pairs = [(old, new) for old, new in constants(other, self._coupling, self._gone) if old != new]
            if len(pairs) != len(chosen):
                continue
            for holder, (old, new) in zip(chosen, pairs, strict=True):
                if holder is None:
                    continue
                attribute, place = holder
                held = getattr(self._modules[at], attribute, None)
                now = held if place is None else held[place] if isinstance(held, tuple | list) else None
                if now == old:
                    value = new if place is None else _replaced(held, place, new)
                    found[at, attribute] = Mend(at, attribute, value)
        return list(found.values())


def _cost(chosen: Sequence[Holder | None]) -> tuple[int, int]:
    """Attributes that change, and constants that would have to share one."""
    some = [holder for holder in chosen if holder is not None]
    return len(some), len(some) - len(set(some))


def _holders(module: nn.Module, value: int) -> Iterator[Holder]:
    """Attributes of a module that are this number, or hold it."""
    for name, held in vars(module).items():
        if name.startswith("_") or isinstance(held, bool):
            continue
        if isinstance(held, int) and held == value:
            yield name, None
        elif type(held) in (tuple, list):
            for place, item in enumerate(held):
                if type(item) is int and item == value:
                    yield name, place


def _replaced(held: Any, place: int, value: int) -> Any:
    made = [value if i == place else item for i, item in enumerate(held)]
    return tuple(made) if isinstance(held, tuple) else made


def mends_of(model: nn.Module, call: Call, coupling: Coupling, gone: Gone) -> list[Mend] | Mismatch:
    """The attributes to change so that the smaller model runs as its labels say."""
    return Trial(model, call, coupling, gone).mended()
