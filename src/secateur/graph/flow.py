"""Runs the rules over a recorded graph until nothing new is learnt, and notes what every operation does to labels."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .ir import Graph, Node, Ref, refs
from .labels import Algebra, Dim, Labels

_log = logging.getLogger(__name__)
_PASSES = 20
_VIEWS_AND_COPIES = """view _unsafe_view _reshape_alias reshape flatten unflatten expand permute transpose t unsqueeze
squeeze select slice clone detach alias contiguous _to_copy"""
_KEEPING_NUMBERS = frozenset(_VIEWS_AND_COPIES.split())


class Role(Enum):
    """What a dimension of a parameter does: makes positions, contracts them, or goes along element by element."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    CARRIER = "carrier"


Site = tuple[int, int]
"""A value, which is a parameter or a buffer, and one of its dimensions."""


@dataclass
class Notes:
    """What the last pass found.

    Attributes:
        roles: of each dimension of a parameter that an operation touched.
        consumed: by node, the (argument, dimension) pairs that it contracts.
        statistics: nodes that compute something over all positions of a labelled dimension: a mean, a norm.
        groups: groups of convolutions; heads: dimensions that an attention runs separately; contracted: its query/key
            features; values: its value features.
        chosen: dimensions of which some are picked by rank, and how many.
        batched: tensors of which rows are picked by rank: the weights of experts.
        normed: direction, length and dimension of weights that are computed from the two.
        products: by node, sizes and labels whose product is its number of multiplications.
        unknown: nodes without a rule.
    """

    roles: dict[Site, set[Role]] = field(default_factory=dict)
    consumed: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    statistics: dict[int, str] = field(default_factory=dict)
    groups: list[Labels] = field(default_factory=list)
    heads: list[Labels] = field(default_factory=list)
    contracted: list[Labels] = field(default_factory=list)
    values: list[Labels] = field(default_factory=list)
    chosen: list[tuple[Labels, int]] = field(default_factory=list)
    batched: list[int] = field(default_factory=list)
    normed: list[tuple[int, int, int]] = field(default_factory=list)
    products: list[tuple[int, tuple[tuple[int, Dim], ...]]] = field(default_factory=list)
    unknown: dict[int, str] = field(default_factory=dict)


class Flow:
    """Labels of every value of a graph.

    Attributes:
        algebra: what is known of the factors.
        notes: of the last pass.
        reasons: why a factor was frozen, and by which node.
        counters: attributes that count the units of a family, by module and name: what trials learnt.
        aligned: whether rows of batched weights must fill whole 16 bytes.
    """

    def __init__(self, graph: Graph, rules: Mapping[str, Callable[["Flow", Node], None]]) -> None:
        self.graph, self.algebra, self.notes = graph, Algebra(), Notes()
        self._rules = rules
        self._made: dict[int, list[Dim]] = {}
        self._points: dict[int, Labels] = {}
        self._followed: set[int] = set()
        self._picked_from: dict[tuple[int | None, int], Site] = {}
        self.sites: dict[Site, Labels] = {}
        self._memo: dict[Any, Labels] = {}
        self.reasons: dict[int, tuple[str, int]] = {}
        self.counters: dict[tuple[str, str], Labels] = {}
        self.aligned = False
        self.index = 0
        self._settled = False

    def run(self) -> "Flow":
        """Pass over the graph until nothing new is learnt."""
        self._settled = False
        for _ in range(_PASSES):
            before = self.algebra.version
            self.notes = Notes()
            self._made.clear()
            self._points.clear()
            for number, node in enumerate(self.graph.nodes):
                self.index = number
                self._rule(node)(self, node)
                self._pass_numbers_on(node)
            for value in self.graph.outputs:
                self.freeze([*self.all(value), self._points.get(value)], "an output of the model")
            if self.algebra.version == before:
                self._settled = True
                return self
        _log.warning("labels did not settle in %d passes; nothing that still moves is pruned", _PASSES)
        for labels in self.sites.values():
            self.algebra.freeze(labels)
        self._settled = True
        return self

    def _rule(self, node: Node) -> Callable[["Flow", Node], None]:
        found = self._rules.get(node.op) or self._rules.get(node.op.removesuffix("_"))
        if found is not None:
            return found
        return self._rules["pointwise"] if node.pointwise else self._rules["unknown"]

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value in the dense model."""
        return self.graph.values[value].shape

    def dim(self, value: int, dim: int) -> Dim:
        """The labels of one dimension; None for what never vanishes and for dimensions of size 1."""
        shape = self.shape(value)
        dim %= max(len(shape), 1)
        if shape[dim] == 1:
            return None
        if value in self._made:
            return self._made[value][dim]
        if self.graph.values[value].kind != "parameter":
            return None
        return self.site(value, dim)

    def site(self, value: int, dim: int) -> Dim:
        """The labels of a dimension of a parameter: one atom for each position, when it is first touched."""
        if self.shape(value)[dim] == 1:
            return None
        if (value, dim) not in self.sites:
            if self._settled:
                return None
            self.sites[value, dim] = self.algebra.fresh(self.shape(value)[dim])
        found = self.algebra.resolve(self.sites[value, dim])
        return found if found.shape[1] else None

    def all(self, value: int) -> list[Dim]:
        """The labels of all dimensions of a value."""
        return [self.dim(value, d) for d in range(len(self.shape(value)))]

    def labelled(self, number: int) -> bool:
        """Whether a node takes or gives anything that can vanish."""
        node = self.graph.nodes[number]
        return any(labels is not None for value in (*node.outs, *tensors(node)) for labels in self.all(value))

    def set(self, value: int, dims: Iterable[Dim]) -> None:
        """The labels of a value that a node gave."""
        found = [None if size == 1 else d for d, size in zip(dims, self.shape(value), strict=True)]
        if self.graph.values[value].kind == "parameter":
            for d, labels in enumerate(found):  # changed in place
                self.algebra.equate(self.site(value, d), labels)
        self._made[value] = found

    def equate(self, a: Dim, b: Dim, why: str = "") -> Dim:
        """Two dimensions are one."""
        if (a is None) != (b is None):
            self.freeze([a, b], why or "it meets positions that always stay, as those of an input do")
            return None
        return self.algebra.equate(a, b)

    def freeze(self, dims: Iterable[Dim], why: str) -> None:
        """These positions stay."""
        for labels in dims:
            if labels is not None:
                now = self.algebra.resolve(labels)
                for factor in set(now[now > 0].tolist()):
                    self.reasons.setdefault(factor, (why, self.index))
                self.algebra.freeze(now)

    def point(self, value: int, labels: Labels) -> None:
        """The numbers in this value are those of positions of a dimension."""
        self._points[value] = labels

    def points(self, value: int) -> Dim:
        """The labels of the positions that the numbers in a value tell, for a rule that heeds them."""
        self._followed.add(value)
        return self._points.get(value)

    def _pass_numbers_on(self, node: Node) -> None:
        """Numbers of positions stay such through views and copies; whoever else reads them fixes the positions."""
        for value in tensors(node) if self._points else ():
            told = self._points.get(value)
            if told is None:
                continue
            if node.op in _KEEPING_NUMBERS:
                self._points.update(dict.fromkeys(node.outs, told))
            elif value not in self._followed:
                self.freeze([told], f"{node.op!r} reads their numbers")
        self._followed.clear()

    def fresh(self, count: int, key: Any) -> Dim:
        """Positions that this node makes: the same atoms in every pass."""
        if count == 1:
            return None
        name = (self.index, key)
        if name not in self._memo:
            self._memo[name] = self.algebra.fresh(count)
        found = self.algebra.resolve(self._memo[name])
        return found if found.shape[1] else None

    def picked(self, out: int, dim: int, value: int, from_dim: int) -> None:
        """A dimension of what this node gives is that of a tensor that it picks from, or computes it of."""
        self._picked_from[out, dim] = value, from_dim

    def origin(self, value: int | None, dim: int) -> tuple[int | None, int]:
        """The tensor and dimension that this one was picked from; itself where it was not."""
        return self._picked_from.get((value, dim), (value, dim))

    def role(self, value: int | None, dim: int, role: Role) -> None:
        """A dimension of a tensor plays this role here, if it is that of a parameter."""
        value, dim = self.origin(value, dim)
        if value is not None and self.graph.values[value].kind == "parameter":
            self.notes.roles.setdefault((value, dim), set()).add(role)

    def consume(self, value: int, dim: int) -> None:
        """This node contracts that dimension of its argument."""
        self.notes.consumed.setdefault(self.index, []).append((value, dim % len(self.shape(value))))

    def contracted(self, value: int, dim: int, other: int, other_dim: int) -> None:
        """This node contracts a dimension of one argument with that of another."""
        self.equate(self.dim(value, dim), self.dim(other, other_dim))
        self.consume(value, dim)
        if self.graph.values[other].kind != "parameter":
            self.consume(other, other_dim)

    def product(self, *factors: tuple[int, Dim]) -> None:
        """This node multiplies as often as the product of these dimensions says."""
        self.notes.products.append((self.index, factors))


def value_of(argument: Any) -> int | None:
    """The value that an argument refers to; None where it is no tensor."""
    return argument.value if isinstance(argument, Ref) else None


def arguments(node: Node, names: str) -> dict[str, Any]:
    """The arguments of a node by name; what was not given is absent.

    Args:
        names: of the positional parameters, in order, separated by spaces.
    """
    return dict(zip(names.split(), node.args, strict=False)) | dict(node.kwargs)


def tensors(node: Node) -> list[int]:
    """Every value among the arguments of a node, once."""
    return list(dict.fromkeys(refs((node.args, dict(node.kwargs)))))
