"""The recorded graph: what one forward pass computed, operation by operation, with tensors replaced by references."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

# a slice that takes everything is an alias
_KINDS = {"_unsafe_view": "view", "_reshape_alias": "view", "alias": "slice"}


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for a tensor among the arguments of a node."""

    value: int


@dataclass(slots=True)
class Value:
    """A tensor of the pass: its shape, and its name where it is a parameter or a buffer of the model."""

    shape: tuple[int, ...]
    name: str | None = None
    kind: str = "made"
    """"made" by a node, "parameter", "input", or "constant": there before the pass, and not registered."""
    dtype: torch.dtype | None = None


@dataclass(slots=True)
class Node:
    """One operation: `linear`, `conv`, `add`, ... without overloads; an operation in place is `add_`.

    Attributes:
        op: the name that rules are registered under.
        args, kwargs: with a `Ref` for each tensor.
        outs: the values it gives, flat, in order.
        module: dotted path of the innermost module whose `forward` ran.
        pointwise: whether torch says that it works element by element.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outs: tuple[int, ...]
    module: str
    pointwise: bool = False


Place = int | str
"""An argument of a call: its position, or its keyword."""


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One call of a module.

    Attributes:
        module: its dotted path.
        begin, end: numbers of the nodes that ran in it, `begin <= node < end`.
        given: the tensors among its arguments.
        gave: what it gave back, one value for each thing; None for a thing that is no tensor. The whole is None
            where it gave neither a tensor nor a plain tuple of tensors, Nones and arguments.
        back: for each of these things, the argument that it is, if it is one.
        alone: whether it gave that one thing without a tuple around it.
    """

    module: str
    begin: int
    end: int
    given: Mapping[Place, int]
    gave: tuple[int | None, ...] | None
    back: tuple[Place | None, ...]
    alone: bool


@dataclass
class Graph:
    """Nodes in the order in which they ran.

    Attributes:
        calls: of modules, in the order in which they ended.
        outputs: values that the model gives back.
        coarsest: machine epsilon of the coarsest floating point numbers that the pass computes with.
        rung: which step of the ladder recorded it: "fake tensors" or "real tensors".
        on_meta: whether the model runs the same on the meta device, as a trial found out; None where none has yet.
        decisions: of a pass on real tensors: what nodes gave that make discrete values of continuous ones.
    """

    values: list[Value] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    calls: list[ModuleCall] = field(default_factory=list)
    outputs: tuple[int, ...] = ()
    coarsest: float = 0.0
    rung: str = "fake tensors"
    on_meta: bool | None = None
    decisions: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)

    @cached_property
    def counted(self) -> frozenset[int]:
        """Values with dimensions that may be as long as what other values say: boxes that pass a threshold."""
        found: set[int] = set()
        for node in self.nodes:
            taken = list(refs((node.args, node.kwargs)))
            by_mask = node.op == "index" and any(self.values[v].dtype == torch.bool for v in taken[1:])
            if by_mask or node.op in ("nonzero", "nms", "masked_select") or not found.isdisjoint(taken):
                found.update(node.outs)
        return frozenset(found)

    @cached_property
    def alike(self) -> tuple[dict[tuple[str, str], list[int]], list[int]]:
        """The nodes of each kind in each module, and of each node the how many-th of them it is."""
        found: dict[tuple[str, str], list[int]] = {}
        ordinals: list[int] = []
        for number, node in enumerate(self.nodes):
            same = found.setdefault(kind_of(node.module, node.op), [])
            ordinals.append(len(same))
            same.append(number)
        return found, ordinals

    @cached_property
    def taken(self) -> list[list[tuple[int, ...]]]:
        """The shapes of the tensors that each node took."""
        return [[self.values[v].shape for v in refs((node.args, dict(node.kwargs)))] for node in self.nodes]

    @cached_property
    def uses(self) -> Counter[int]:
        """How often nodes name each value."""
        return Counter(v for node in self.nodes for v in refs((node.args, dict(node.kwargs))))

    def parameters(self) -> dict[str, int]:
        """The values that are parameters or buffers, by name."""
        return {v.name: i for i, v in enumerate(self.values) if v.name is not None}


def kind_of(module: str, op: str) -> tuple[str, str]:
    """What is counted together: operations of one kind in one module."""
    return module, _KINDS.get(op, op)


def refs(tree: Any) -> Iterator[int]:
    """Every value that the arguments name, in order, with repeats."""
    if isinstance(tree, Ref):
        yield tree.value
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from refs(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from refs(item)


def mapped(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same tree of tuples, lists and dicts with `leaf` applied to everything else."""
    if isinstance(tree, tuple) and type(tree) is not tuple and hasattr(tree, "_fields"):
        return type(tree)(*(mapped(item, leaf) for item in tree))
    if isinstance(tree, tuple | list):
        made = [mapped(item, leaf) for item in tree]
        return made if isinstance(tree, list) else tuple(made)
    if isinstance(tree, dict):
        return {key: mapped(item, leaf) for key, item in tree.items()}
    return leaf(tree)


def tensors_in(tree: Any, depth: int = 6) -> Iterator[Tensor]:
    """Every tensor in nested containers, and in the attributes of objects such as a model's output or its cache."""
    if isinstance(tree, Tensor):
        yield tree
    elif depth == 0 or isinstance(tree, str | bytes | int | float | type(None)):
        return
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from tensors_in(item, depth - 1)
    elif isinstance(tree, tuple | list | set):
        for item in tree:
            yield from tensors_in(item, depth - 1)
    elif hasattr(tree, "__dict__") and not isinstance(tree, type | nn.Module):
        yield from tensors_in(vars(tree), depth - 1)
