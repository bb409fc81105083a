"""A pass of the smaller model on fake tensors, compared with what the labels say of every shape.

Weights of the right shape are not enough: Python keeps sizes too, as attributes that end up as constants in a `view`
or a `split`. Where the pass goes astray, an attribute of the module that ran is looked for whose value is the old
constant; the pass then shows whether it was the right one. What is not proven by a whole pass is not cut.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, combinations, islice, product
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.core.plan import Mend, held_at, is_settings, mend_sizes_

from .align import Alignment
from .capture import Call, given, standing_in, still
from .constants import constants, misplaced
from .coupling import Coupling, Gone
from .deciding import as_recorded
from .ir import Node, tensors_in
from .stand_ins import Fakes, Metas, StandIns, without_collector
from .swap import swap_
from .tap import Tap

_MOST_TRIES = 24
_MOST_OTHER_WAYS = 10
_AHEAD = 4
_MOST_SIZES = 6
_VIEWS = frozenset(
    ["view", "_unsafe_view", "expand", "clone", "permute", "transpose", "unsqueeze", "squeeze", "slice", "select"]
)
_ARITHMETIC = frozenset(["add", "sub", "rsub", "mul", "div", "pow"])
_PACKED = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight")
_Chosen = dict[tuple[str, str], Mend]
Holder = tuple[str, int | None, int]
"""An attribute of a module, the place in it where it is a sequence, and how often it goes into the constant."""


class Misfit(Exception):
    """The pass of the smaller model left the recorded path.

    Attributes:
        node: the last one that came by.
        suspects: where a wrong constant may be: that node, and those near it that should have come by and did not. A
            slice that would take all positions is left out, and `unflatten` refuses before any operation runs.
    """

    def __init__(self, node: int, why: str, suspects: Sequence[int] = ()) -> None:
        super().__init__(why)
        self.node, self.why, self.suspects = node, why, (node, *suspects)


@dataclass(frozen=True)
class Mismatch:
    """What no attribute explains: where the forward function keeps a size."""

    node: int
    module: str
    op: str
    why: str


class _Checker(Tap):
    """Compares the shapes of a pass with what labels say.

    Attributes:
        at: the node that runs now.
        laid_out_alike: whether nothing was viewed or copied that was not in the recorded pass.
    """

    def __init__(
        self, model: nn.Module, coupling: Coupling, gone: Gone, shape: Callable[[int], tuple[int, ...]]
    ) -> None:
        super().__init__(model)
        self._coupling, self._gone, self._shape = coupling, gone, shape
        self._alignment = Alignment(coupling.graph)
        self._by_sizes_alone = coupling.graph.rung == "fake tensors"  # a number may come from the values of real ones
        self.at = 0
        self.laid_out_alike = True

    def missed(self, end: int) -> list[int]:
        """The nodes nearest before this one, and nearest before it in its module, that did not come by."""
        nodes, ran = self._coupling.graph.nodes, self._alignment.ran
        end = min(end, len(nodes))
        near = [n for n in range(max(end - 2 * _AHEAD, 0), end) if n not in ran]
        module = nodes[min(end, len(nodes) - 1)].module
        own = (n for n in range(end - 1, -1, -1) if n not in ran and n not in near and nodes[n].module == module)
        return [*near, *islice(own, 2 * _AHEAD)]

    def operation(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        candidates = self._alignment.candidates(self.module, op)
        if not candidates:
            result = func(*args, **kwargs)
            self.laid_out_alike &= op not in _VIEWS or not any(t.dim() for t in tensors_in(args))
            return result
        self.at = candidates[0]
        try:
            result = func(*args, **kwargs)
        except Exception as error:
            raise Misfit(self.at, (str(error).splitlines() or [type(error).__name__])[0][:200]) from error
        fitting = [number for number in self._ahead(op, candidates) if self._fits(number, result)]
        if not fitting and not any(t.dim() for t in tensors_in((args, result))):
            return result  # devices store a number in a tensor by different operations; it has no positions
        if not fitting:
            shapes = [tuple(t.shape) for t in tensors_in(result)]
            wanted = [self._shape(value) for value in self._coupling.graph.nodes[self.at].outs]
            raise Misfit(self.at, f"it gave shape {str(shapes)[1:-1]} instead of {str(wanted)[1:-1]}")
        amiss = {n: misplaced(self._coupling.graph.nodes[n], args, self._coupling, self._gone) for n in fitting}
        found = next((number for number, told in amiss.items() if told is None), fitting[0])
        if (told := amiss[found]) is not None:
            raise Misfit(found, f"it takes or adds positions by {told[1]} instead of {told[0]}")
        self._alignment.take(self.module, op, found)
        before, now = _scalars(op, self._coupling.graph.nodes[found].args), _scalars(op, args)
        if self._by_sizes_alone and len(before) == len(now) and before != now:
            raise Misfit(found, f"it works with {now[0]:g} instead of {before[0]:g}, which is computed from a size")
        return as_recorded(self._coupling.graph, found, op, args, kwargs, result)  # so that loops are as long

    def _ahead(self, op: str, candidates: list[int]) -> Iterator[int]:
        """The recorded operations that this one may be.

        Copies of heads that are no longer copied leave out the views that copied them, and what a module computes only
        in its first pass is not done again: such operations have no labels.
        """
        left = _AHEAD if op in _VIEWS else 1
        for number in candidates:
            yield number
            left -= self._coupling.flow.labelled(number)
            if not left:
                return

    def _fits(self, number: int, result: Any) -> bool:
        outs = self._coupling.graph.nodes[number].outs
        return all(self._is(v, tuple(t.shape)) for v, t in zip(outs, tensors_in(result), strict=False))

    def _is(self, value: int, shape: tuple[int, ...]) -> bool:
        """Whether a value has the shape that its labels say; what counts by values may be of any length."""
        wanted = self._shape(value)
        if shape == wanted or value not in self._coupling.graph.counted:
            return shape == wanted
        dims = self._coupling.flow.all(value)
        return len(shape) == len(wanted) and all(
            a == b or d is None for a, b, d in zip(shape, wanted, dims, strict=True)
        )


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
        self._ordinals = Alignment(coupling.graph).ordinals
        self._other_ways: Iterator[int] | None = None
        self._counted: dict[str, frozenset[tuple[int, int]]] = {}
        self._shape = cache(lambda value: coupling.shape(value, gone))

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each parameter and buffer that the pass read, in the smaller model."""
        return {name: self._shape(value) for name, value in self._coupling.graph.parameters().items()}

    @cached_property
    def _names(self) -> dict[int, str]:
        """Of these tensors, by identity."""
        tensors: list[tuple[str, Tensor]] = [*self._model.named_parameters(remove_duplicate=False)]
        tensors += self._model.named_buffers(remove_duplicate=False)
        return {id(tensor): name for name, tensor in tensors if name in self._shapes}

    def mended(self) -> list[Mend] | Mismatch:
        """The attributes to change, or what no attribute explains."""
        chosen = {(m.module, m.attribute): m for m in self._known()}
        found = self._completed(chosen, self._run(chosen.values()))
        if isinstance(found, dict):
            return list(found.values())
        node = self._coupling.graph.nodes[found.node]
        return Mismatch(found.node, node.module, node.op, found.why)

    def _completed(self, chosen: _Chosen, astray: Misfit | None) -> _Chosen | Misfit:
        """What was chosen, with what else the pass needs; where nothing helps, what stood in the way of the first way.

        A guess that leads further may still be wrong: two heads of eight features are as many as four of four. So the
        next one is tried where it leads to nothing.
        """
        if astray is None:
            return chosen
        first: Misfit | None = None
        guesses = islice(chain.from_iterable(map(self._guesses, astray.suspects)), _MOST_TRIES)
        known = [chosen]
        for tried in (chosen | {(m.module, m.attribute): m for m in mends} for mends in guesses):
            if tried in known:
                continue
            known.append(tried)
            if self._other_ways is not None and next(self._other_ways, None) is None:
                break
            again = self._run(tried.values())
            if again is None or again.node > astray.node:
                found = self._completed(tried, again)
                if isinstance(found, dict):
                    return found
                first = first or found
        if self._other_ways is None:  # the first dead end
            self._other_ways = iter(range(_MOST_OTHER_WAYS))
        return first or astray

    def _run(self, mends: Collection[Mend]) -> Misfit | None:
        """Where a pass with these attributes goes astray, on the cheapest tensors that the model runs on."""
        graph = self._coupling.graph
        if graph.rung == "real tensors":  # what fakes could not record, they cannot try either
            return self._pass(mends, None, self._checker())
        if graph.on_meta is not False:
            checker = self._checker()
            astray = self._pass(mends, Metas(), checker)
            if astray is None and checker.laid_out_alike:
                return None
            if graph.on_meta is None:
                graph.on_meta = Trial(self._model, self._call, self._coupling, self._gone & False)._runs_on_meta()
            if graph.on_meta:
                return astray
        return self._pass(mends, Fakes(), self._checker())

    def _runs_on_meta(self) -> bool:
        """Whether the pass is the recorded one; where memory is laid out otherwise, other views and copies come by."""
        checker = self._checker()
        return self._pass((), Metas(), checker) is None and checker.laid_out_alike

    def _checker(self) -> _Checker:
        return _Checker(self._model, self._coupling, self._gone, self._shape)

    def _pass(self, mends: Collection[Mend], stand_ins: StandIns | None, checker: _Checker) -> Misfit | None:
        try:
            with still(self._model), self._resized(stand_ins):
                for mend in mends:
                    mend.replay_(self._model)
                swapped = given(self._model, standing_in(stand_ins, checker)) if stand_ins else nullcontext()
                active = stand_ins.active() if stand_ins else nullcontext()
                with without_collector(bool(stand_ins)), active, checker.open(), swapped:
                    self._call(self._model)
        except Misfit as misfit:
            return Misfit(misfit.node, misfit.why, checker.missed(misfit.node))
        except Exception as error:
            last = min(checker.at, len(self._coupling.graph.nodes) - 1)
            return Misfit(last, str(error)[:200], checker.missed(last + _AHEAD))
        finally:
            for module in self._modules.values():
                if type(module) is not self._classes[id(module)]:
                    module.__class__ = self._classes[id(module)]
        return None

    @contextmanager
    def _resized(self, stand_ins: StandIns | None) -> Iterator[None]:
        names = self._names
        if stand_ins is not None:
            swap_(self._model, lambda tensor: stand_ins.like(tensor, self._shapes.get(names.get(id(tensor), ""))))
        else:
            swap_(self._model, lambda tensor: self._cut(tensor, names.get(id(tensor))))
        for module in self._modules.values():
            mend_sizes_(module)
        yield

    def _cut(self, tensor: Tensor, name: str | None) -> Tensor:
        for site, dim, stays in self._coupling.sites(self._gone):
            if site == name:
                tensor = tensor.index_select(dim, torch.from_numpy(stays.nonzero()[0]).to(tensor.device))
        return tensor

    def _known(self) -> Iterator[Mend]:
        """Attributes whose meaning is known by their operation."""
        yield from self._numbers_of_experts()
        yield from self._learnt()
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

    def _numbers_of_experts(self) -> Iterator[Mend]:
        """How many experts there are is told by attributes that the recorded way of computing them does not read."""
        flow = self._coupling.flow
        counts = [
            (labels, len(labels), int(self._coupling.stays(labels, len(labels), self._gone).sum()))
            for labels, _ in flow.notes.chosen
        ]
        for labels, old, new in counts:
            if old == new:
                continue
            now = flow.algebra.resolve(labels)
            sites = [site for site, own in flow.sites.items() if np.array_equal(flow.algebra.resolve(own), now)]
            paths = {str(self._coupling.graph.values[value].name).rpartition(".")[0] for value, _ in sites}
            around = paths | {path.rpartition(".")[0] for path in paths}
            if all(now == new for _, was, now in counts if was == old):  # one number for the whole model
                around |= {""} | {p.rpartition(".")[0] for p in around}
            for path in sorted(around):
                for name, held in vars(self._modules[path]).items():
                    if name.endswith("experts") and type(held) is int and held == old:
                        yield Mend(path, name, new)

    def _learnt(self) -> Iterator[Mend]:
        """Attributes that count units, as other trials found."""
        for (path, attribute), factors in self._coupling.flow.counters.items():
            old, new = len(factors), int(self._coupling.stays(factors, len(factors), self._gone).sum())
            if held_at(self._modules[path], attribute) == old != new:
                yield Mend(path, attribute, new)

    def _packed(self, node: Node, module: nn.MultiheadAttention) -> Iterator[Mend]:
        values, path = self._coupling.graph.parameters(), f"{node.module}." if node.module else ""
        names = [path + name for name in _PACKED if path + name in values]
        shapes = {name: self._shape(values[name]) for name in names}
        if any(shapes[name] != self._coupling.flow.shape(values[name]) for name in names):
            yield Mend(node.module, "num_heads", shapes[f"{path}out_proj.weight"][1] // module.head_dim)

    def _guesses(self, number: int) -> Iterator[list[Mend]]:
        """Assignments of changed constants of a node to attributes, near modules first; alike modules alike."""
        node = self._coupling.graph.nodes[number]
        changes = self._changes(node)
        if not changes:
            return
        whole = self._whole(number)
        if whole:
            yield whole
        for path in self._places(node.module):
            # some sizes are read from shapes, and need nothing: as few attributes as possible are changed
            choices = [
                [None, *_holders(self._modules[path], old, new, self._numbers(node.module))]
                for old, new in changes.values()
            ]
            for chosen in sorted(islice(product(*choices), 4096), key=_cost):
                mends = self._everywhere(number, path, dict(zip(changes, chosen, strict=True)))
                if mends:
                    yield mends

    def _whole(self, number: int) -> list[Mend]:
        """Attributes that are all the constants of an operation, in order; of every operation like it.

        Of a sequence such as `(2, 4, 2, 8, 4)` nothing else tells which 4 is which.
        """
        node = self._coupling.graph.nodes[number]
        kind = type(self._modules[node.module])
        found: dict[tuple[str, str], Mend] = {}
        for ordinal, other in zip(self._ordinals, self._coupling.graph.nodes, strict=True):
            module = self._modules.get(other.module)
            if other.op != node.op or ordinal != self._ordinals[number] or type(module) is not kind:
                continue
            pairs = list(constants(other, self._coupling, self._gone))
            old, new = tuple(a for a, _ in pairs), iter([b for _, b in pairs])
            for name, held in vars(module).items():
                sizes = type(held) in (tuple, list) and all(type(item) is int for item in held)
                if len(old) > 1 and sizes and not name.startswith("_") and tuple(n for n in held if n > 0) == old:
                    mended = tuple(next(new) if item > 0 else item for item in held)
                    if mended != tuple(held):
                        found[other.module, name] = Mend(other.module, name, mended)
                    break
        return list(found.values())

    def _numbers(self, path: str) -> frozenset[tuple[int, int]]:
        """(old, new) of how many units there are around a module: of a family, and of two or three together."""
        path = path.rpartition(".")[0] if not self._modules[path]._modules else path
        inside = f"{path}." if path else ""
        if path not in self._counted:
            near = [f for f in self._coupling.families if any(m.name.startswith(inside) for m in f.members)]
            each = sorted({(f.size, int((~self._gone[f.factors]).sum())) for f in near})[:_MOST_SIZES]
            sets = chain.from_iterable(combinations(each * 2, n) for n in (1, 2, 3))
            self._counted[path] = frozenset((prod(a for a, _ in s), prod(b for _, b in s)) for s in sets)
        return self._counted[path]

    def _places(self, path: str) -> Iterator[str]:
        """A module, those directly in it, whose functions it may call, and those around it."""
        yield path
        for name, _ in self._modules[path].named_children():
            yield f"{path}.{name}" if path else name
        while path:
            path = path.rpartition(".")[0]
            yield path

    def _changes(self, node: Node) -> dict[int, tuple[int, int]]:
        """(old, new) of the constants of a node that change, by their place among its constants."""
        pairs = enumerate(constants(node, self._coupling, self._gone))
        return {place: (old, new) for place, (old, new) in pairs if old != new}

    def _everywhere(self, number: int, path: str, chosen: Mapping[int, Holder | None]) -> list[Mend]:
        """The same attributes for every module of the class where the same constants of the same operation change."""
        node = self._coupling.graph.nodes[number]
        tail, child = node.module[len(path) :], path[len(node.module) :]
        kind = type(self._modules[path])
        found: dict[tuple[str, str], Mend] = {}
        for ordinal, other in zip(self._ordinals, self._coupling.graph.nodes, strict=True):
            at = other.module[: len(other.module) - len(tail)] + child if other.module.endswith(tail) else None
            same = other.op == node.op and ordinal == self._ordinals[number]
            if not same or at is None or type(self._modules.get(at)) is not kind:
                continue
            changes = self._changes(other)
            for place, holder in chosen.items():
                if holder is None or place not in changes:
                    continue
                attribute, position, each = holder
                held = found[at, attribute].value if (at, attribute) in found else None
                held = held_at(self._modules[at], attribute) if held is None or position is None else held
                now = held if position is None else _at(held, position)
                old, new = changes[place]
                if isinstance(now, int) and now * each == old and new % each == 0:
                    value = new // each if position is None else _replaced(held, position, new // each)
                    found[at, attribute] = Mend(at, attribute, value)
        return list(found.values())


def _scalars(op: str, args: Sequence[Any]) -> list[float]:
    """The plain numbers that an operation works with element by element."""
    if op.removesuffix("_") not in _ARITHMETIC:
        return []
    return [float(a) for a in args if type(a) in (int, float)]


def _cost(chosen: Sequence[Holder | None]) -> tuple[int, int, int]:
    """Attributes that are only a part of a constant, all that change, and constants that would have to share one."""
    some = [holder for holder in chosen if holder is not None]
    return sum(each > 1 for _, _, each in some), len(some), len(some) - len(set(some))


def _holders(module: nn.Module, old: int, new: int, counts: Collection[tuple[int, int]]) -> Iterator[Holder]:
    """Attributes of a module that are a number, hold it, or are a factor of it that could have changed it so.

    Those of its settings, such as `config.heads`, come after its own.

    Args:
        counts: what a factor may have been, and would be.
    """
    owners = [("", vars(module))]
    owners += [(f"{n}.", vars(h)) for n, h in vars(module).items() if not n.startswith("_") and is_settings(h)]
    for prefix, attributes in owners:
        for name, held in attributes.items():
            if name.startswith("_"):
                continue
            items = enumerate(held) if type(held) in (tuple, list) else [(None, held)]
            for place, item in items:
                if type(item) is not int or not 1 < item <= old or old % item or new % (old // item):
                    continue
                if item == old or (item, new // (old // item)) in counts:
                    yield prefix + name, place, old // item


def _at(held: Any, place: int) -> Any:
    return held[place] if isinstance(held, tuple | list) and place < len(held) else None


def _replaced(held: Any, place: int, value: int) -> tuple[int, ...]:
    return tuple(value if i == place else item for i, item in enumerate(held))


def mends_of(model: nn.Module, call: Call, coupling: Coupling, gone: Gone) -> list[Mend] | Mismatch:
    """The attributes to change so that the smaller model runs as its labels say."""
    return Trial(model, call, coupling, gone).mended()
