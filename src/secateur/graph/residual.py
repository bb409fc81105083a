"""Which modules add to a stream: residual ones, whose output is their input plus something, and the branches in them.

All is read off a recorded pass. A module is residual if the one tensor that it makes for others leads back, through
additions and operations that keep a tensor's place, to one of its arguments of the same shape.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

from .ir import Graph, ModuleCall, Node, Place, Ref, refs

Def = tuple[int, int]
"""A value, and the node that made it or changed it in place; -1 where it was there before the pass."""

_ADDS = frozenset({"add", "add_"})
_VIEWS = """view _unsafe_view reshape unsqueeze squeeze clone contiguous alias detach _to_copy to"""
_SHAPES = """relu relu6 hardtanh gelu silu leaky_relu elu selu tanh sigmoid hardswish hardsigmoid mish softplus clamp
prelu dropout native_dropout layer_norm rms_norm batch_norm group_norm instance_norm"""
_SCALES = """dropout native_dropout permute transpose t slice select roll neg rms_norm relu gelu silu tanh mul div"""
_LAYERS = """linear conv conv_transpose matmul mm bmm addmm baddbmm attention multi_head_attention lstm gru rnn"""
_ALONG, _ZERO_STAYS = frozenset(f"{_VIEWS} {_SHAPES}".split()), frozenset(f"{_VIEWS} {_SCALES}".split())
_WORK = frozenset(_LAYERS.split())


@dataclass(frozen=True, eq=False)
class Unit:
    """A module that can be skipped.

    Attributes:
        call: its one call.
        argument: what stands in its output's place; where it is a branch, what zeros are made like.
        made: what it makes for others.
        zeros: whether it is a branch.
        spine: for a residual module, the nodes that lead from what it makes back to the argument.
        after: for a branch, the modules behind it that only scale what it makes.
    """

    call: ModuleCall
    argument: Place
    made: Def
    zeros: bool = False
    spine: tuple[int, ...] = ()
    after: tuple["Unit", ...] = ()

    @property
    def module(self) -> str:
        """Its dotted path."""
        return self.call.module


class Streams:
    """Who made and who reads what in a recorded pass, and which modules are residual in it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.reads: list[list[Def]] = []
        self.makes: list[list[Def]] = []
        self.readers: dict[Def, list[int]] = {}
        last: dict[int, int] = {}
        for number, node in enumerate(graph.nodes):
            read = [(v, last.get(v, -1)) for v in refs((node.args, dict(node.kwargs)))]
            same = {v for v, _ in read} if not node.op.endswith("_") else set()  # a dropout that does nothing
            self.reads.append(read)
            self.makes.append([(v, number) for v in node.outs if v not in same])
            for d in read:
                self.readers.setdefault(d, []).append(number)
            last.update(self.makes[-1])
        self.outputs = {(v, last.get(v, -1)) for v in graph.outputs}
        self._times = Counter(call.module for call in graph.calls)

    @cached_property
    def calls(self) -> dict[str, ModuleCall]:
        """The calls of modules that are called once, by their paths."""
        return {call.module: call for call in self.graph.calls if self._times[call.module] == 1}

    def times(self, module: str) -> int:
        """How often a module is called."""
        return self._times[module]

    def given(self, call: ModuleCall) -> list[Def]:
        """What a call makes that is read outside it."""
        made = (d for number in range(call.begin, call.end) for d in self.makes[number])
        return [d for d in made if d in self.outputs or self.readers.get(d, [-1])[-1] >= call.end]

    def told(self, made: Iterable[Def]) -> bool:
        """Whether any of it is an output of the model."""
        return not self.outputs.isdisjoint(made)

    def alike(self, call: ModuleCall, made: Def) -> Place | None:
        """An argument of the shape of what a call makes."""
        shape = self.graph.values[made[0]].shape
        return next((p for p, v in call.given.items() if self.graph.values[v].shape == shape), None)

    def keeps_place(self, number: int) -> bool:
        """Whether a node gives a new tensor whose elements stay where they were in its only one."""
        return self.graph.nodes[number].op in _ALONG and len(self.reads[number]) == 1

    def works(self, call: ModuleCall) -> bool:
        """Whether it contracts anything: additions of positions and norms are no layers."""
        return any(node.op in _WORK for node in self.graph.nodes[call.begin : call.end])

    def residual(self, call: ModuleCall) -> Unit | str:
        """The module as a residual one, or why it is none."""
        if call.gave is None:
            return "it gives back more than tensors"
        made = self.given(call)
        if len(made) != 1:
            return "more than one tensor that it makes is read elsewhere" if made else "nothing that it makes is read"
        if made[0][0] not in call.gave:
            return "what it makes is not given back"
        found = self._spine(call, made[0])
        if found is None:
            return "its output is no sum of an argument of the same shape and something else"
        if not self.works(call):
            return "it holds no layer"
        return Unit(call, found[0], made[0], spine=found[1])

    def _spine(self, call: ModuleCall, made: Def) -> tuple[Place, tuple[int, ...]] | None:
        """The argument that an output leads back to through an addition, and the nodes on the way."""
        shape = self.graph.values[made[0]].shape
        places = {v: p for p, v in reversed(list(call.given.items())) if self.graph.values[v].shape == shape}
        start = made, False
        came: dict[tuple[Def, bool], tuple[Def, bool] | None] = {start: None}
        pending = [start]
        while pending:
            here = pending.pop()
            (value, maker), added = here
            if maker < call.begin:
                if added and value in places:
                    return places[value], tuple(self._way(here, came))
                continue
            node = self.graph.nodes[maker]
            for source in reversed(self._along(maker, node)):
                there = source, added or len(self._terms(maker, node)) > 1
                if there not in came:
                    came[there] = here
                    pending.append(there)
        return None

    def _way(self, end: tuple[Def, bool], came: dict[tuple[Def, bool], tuple[Def, bool] | None]) -> list[int]:
        nodes = []
        step = came[end]
        while step is not None:
            nodes.append(step[0][1])
            step = came[step]
        return nodes[::-1]

    def _along(self, number: int, node: Node) -> list[Def]:
        """What a node passes on: the terms of an addition, or the first argument where that keeps its place."""
        terms = self._terms(number, node)
        if terms or node.op.removesuffix("_") not in _ALONG or not self.reads[number]:
            return terms
        first = self.reads[number][0]
        return [first] if self._size(first[0]) == self._size(node.outs[0]) else []

    def _terms(self, number: int, node: Node) -> list[Def]:
        """The terms of a plain addition."""
        terms = [d for d, argument in zip(self.reads[number], node.args, strict=False) if isinstance(argument, Ref)]
        whole = len(terms) == 2 and all(self._size(v) == self._size(node.outs[0]) for v, _ in terms)
        return terms if node.op in _ADDS and whole and node.kwargs.get("alpha", 1) == 1 else []

    def _size(self, value: int) -> int:
        return prod(self.graph.values[value].shape)

    def branches(self, block: Unit, taken: Iterable[Unit]) -> Iterator[Unit]:
        """The modules in a residual one of which all that they make is added to its stream.

        Args:
            taken: units in the block, whose own additions do not count.
        """
        ends = [(unit.call.begin, unit.call.end) for unit in taken]
        inside = [c for c in self.calls.values() if block.call.begin <= c.begin and c.end <= block.call.end]
        inside.sort(key=lambda c: (c.begin - c.end, c.module.count(".")))  # the outermost first
        outer: dict[Def, ModuleCall] = {}
        for call in inside:
            made = self.given(call) if call.end > call.begin and call is not block.call else []
            if len(made) == 1 and call.gave is not None and made[0][0] in call.gave:
                outer.setdefault(made[0], call)
        on = set(block.spine)
        for number in block.spine:
            if any(begin <= number < end for begin, end in ends):
                continue
            for term in self._terms(number, self.graph.nodes[number]):
                if term[1] not in on and term[1] >= block.call.begin:
                    yield from self._branches_at(term, outer, ends, block.call.begin)

    def _branches_at(
        self, term: Def, outer: dict[Def, ModuleCall], ends: list[tuple[int, int]], begin: int
    ) -> Iterator[Unit]:
        found: list[Unit] = []
        after: list[Unit] = []
        pending = [term]
        while pending:
            here = pending.pop()
            number = here[1]
            if number < begin or any(b <= number < e for b, e in ends):
                continue
            if here in outer and (unit := self._passing(outer[here], here)) is not None:
                (found if self.works(unit.call) else after).append(unit)
            node = self.graph.nodes[number]
            terms = self._terms(number, node)
            if terms:  # each term is a branch of its own, and what scales their sum stays
                for one in terms:
                    yield from self._branches_at(one, outer, ends, begin)
            elif node.op.removesuffix("_") in _ZERO_STAYS and self.reads[number]:
                pending += self.reads[number] if node.op.startswith("mul") else self.reads[number][:1]
        if found:
            last = min(found, key=lambda unit: unit.call.begin)
            scaling = [u for u in after if u.call.begin >= last.call.end and not _within(u, found)]
            yield Unit(last.call, last.argument, last.made, zeros=True, after=tuple(scaling))

    def _passing(self, call: ModuleCall, made: Def) -> Unit | None:
        """A module that could give back an argument of its output's shape."""
        place = self.alike(call, made)
        return None if place is None else Unit(call, place, made)


def _within(unit: Unit, others: Iterable[Unit]) -> bool:
    return any(unit.module.startswith(f"{other.module}.") for other in others)
