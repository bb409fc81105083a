"""Positions told by number: picked, ranked, turned about.

Numbers that come out of a ranking point to the positions that were ranked. Where they only pick those same positions in
other tensors, as a router's choices pick experts, the two dimensions are one and may shrink together: the smaller model
numbers those that stay anew, on both sides. Any other use of such numbers, and all other numbers, fix the positions.
"""

from typing import Any

from ..flow import Flow, tensors, value_of
from ..ir import Node
from ..labels import Dim
from .reduce import over_dims

_BY_NUMBER = "its positions are picked by number"


def _same_positions(flow: Flow, labels: Dim, numbers: int) -> None:
    """What tells the numbers and what they pick from is one dimension, or stays."""
    told = flow.points(numbers)
    if told is None:
        flow.freeze([labels], _BY_NUMBER)
    else:
        flow.equate(labels, told, "numbers of what may vanish pick from what stays")


def index(flow: Flow, node: Node) -> None:
    """Positions picked by tensors of numbers; the other dimensions pass."""
    source = tensors(node)[0]
    dims = flow.all(source)
    picks = list(node.args[1]) + [None] * (len(dims) - len(node.args[1]))
    used = [i for i, p in enumerate(picks) if p is not None]
    if any(flow.graph.values[p.value].shape != () and len(picks) > len(dims) for p in picks if p is not None):
        flow.freeze(dims, "it is indexed by a mask of several dimensions")
    for i in used:
        if flow.points(picks[i].value) is not None:
            flow.notes.batched.append(source)
        _same_positions(flow, dims[i] if i < len(dims) else None, picks[i].value)
        flow.freeze(flow.all(picks[i].value), "it holds numbers of positions")
    out = node.outs[0]
    passing = [d for i, d in enumerate(dims) if i not in used]
    new = len(flow.shape(out)) - len(passing)
    together = used == list(range(used[0], used[0] + len(used))) if used else True
    place = used[0] if used and together else 0
    flow.set(out, [*passing[:place], *[None] * new, *passing[place:]])
    for i, d in enumerate(d for d in range(len(dims)) if d not in used):
        flow.picked(out, i if i < place else i + new, source, d)


def index_select(flow: Flow, node: Node) -> None:
    """Positions of one dimension picked by a tensor of numbers."""
    source = tensors(node)[0]
    dims = flow.all(source)
    dim = node.args[1] % len(dims)
    _same_positions(flow, dims[dim], node.args[2].value)
    dims[dim] = None
    flow.set(node.outs[0], dims)


def gather(flow: Flow, node: Node) -> None:
    """`out[i, j] = source[i, numbers[i, j]]`: what is left of the other dimensions is told by the numbers' shape."""
    source, numbers = node.args[0].value, node.args[2].value
    _at(flow, source, numbers, node.args[1])
    flow.set(node.outs[0], [None] * len(flow.shape(node.outs[0])))


def scatter(flow: Flow, node: Node) -> None:
    """`out = source; out[i, numbers[i, j]] = ...`: the same dimensions as before."""
    source, numbers = node.args[0].value, node.args[2].value
    dims = flow.all(source)
    _at(flow, source, numbers, node.args[1])
    for other in node.args[3:]:
        if value_of(other) is not None:
            flow.freeze(flow.all(other.value), "it is written to positions picked by number")
    flow.set(node.outs[0], [d if i == node.args[1] % len(dims) else None for i, d in enumerate(dims)])


def _at(flow: Flow, source: int, numbers: int, dim: int) -> None:
    dims = flow.all(source)
    dim %= max(len(dims), 1)
    _same_positions(flow, dims[dim] if dims else None, numbers)
    flow.freeze([d for i, d in enumerate(dims) if i != dim], "numbers of another dimension are told for each of it")
    flow.freeze(flow.all(numbers), "it holds numbers of positions")


def chosen(flow: Flow, node: Node) -> None:
    """The largest of a dimension and their numbers, which point to its positions; so many have to stay."""
    source = node.args[0].value
    dims = flow.all(source)
    if node.op == "topk":
        given: dict[str, Any] = dict(zip(("k", "dim"), node.args[1:3], strict=False)) | dict(node.kwargs)
        count, dim, numbers = given["k"], given.get("dim", -1), node.outs[1]
    else:
        count, dim, numbers = 1, node.args[1] if len(node.args) > 1 else node.kwargs.get("dim"), node.outs[0]
    if dim is None or not dims:
        flow.freeze(dims, f"{node.op!r} tells its positions by number")
        flow.set(node.outs[0], [None] * len(flow.shape(node.outs[0])))
        return
    dim %= len(dims)
    if dims[dim] is not None:
        flow.notes.statistics[flow.index] = node.op
        flow.notes.chosen.append((dims[dim], count))
        flow.point(numbers, dims[dim])
    for out in node.outs:
        same = len(flow.shape(out)) == len(dims)
        flow.set(out, [None if i == dim else d for i, d in enumerate(dims) if same or i != dim])


def put(flow: Flow, node: Node) -> None:
    """`out = source; out[numbers] = values`: the dimensions that are not numbered pass, and are those of the values."""
    source, picks, values = node.args[0].value, node.args[1], node.args[2].value
    dims = flow.all(source)
    used = [i for i, p in enumerate(picks) if p is not None]
    for i in used:
        _same_positions(flow, dims[i] if i < len(dims) else None, picks[i].value)
        flow.freeze(flow.all(picks[i].value), "it holds numbers of positions")
    passing = [i for i in range(len(dims)) if i not in used]
    if used != list(range(len(used))) or any(len(flow.shape(picks[i].value)) != 1 for i in used):
        flow.freeze([*(dims[i] for i in passing), *flow.all(values)], "it is written to positions picked by number")
        passing = []
    given = flow.shape(values)
    for place, i in enumerate(reversed(passing), start=1):
        if place <= len(given) and given[-place] > 1:
            dims[i] = flow.equate(dims[i], flow.dim(values, -place))
    flow.set(node.outs[0], [d if i in passing else None for i, d in enumerate(dims)])


def told(flow: Flow, node: Node) -> None:
    """What gives numbers of positions by their values: all of them stay."""
    for value in tensors(node):
        flow.freeze(flow.all(value), f"{node.op!r} tells its positions by number")
    for value in node.outs:
        flow.set(value, [None] * len(flow.shape(value)))


def turned(flow: Flow, node: Node) -> None:
    """Positions of some dimensions in another order of their own."""
    source = tensors(node)[0]
    dims = flow.all(source)
    given = node.args[-1]
    for d in [given] if isinstance(given, int) else given:
        flow.freeze([dims[d]], "its positions are turned about by number")
    flow.set(node.outs[0], dims)


def ranked(flow: Flow, node: Node) -> None:
    """What tells positions by number, or depends on their order: they stay."""
    source = tensors(node)[0]
    place = {"kthvalue": 2}.get(node.op, 1)
    given = node.args[place] if len(node.args) > place else node.kwargs.get("dim", -1 if node.outs else None)
    over = over_dims(flow, node, given)
    dims = flow.all(source)
    flow.freeze([dims[d] for d in over], f"{node.op!r} tells its positions by number")
    rank = len(dims)
    for out in node.outs:
        same = len(flow.shape(out)) == rank
        flow.set(out, [None if d in over else dims[d] for d in range(rank) if same or d not in over])


_RANKED = "sort argsort argmin cumsum cumprod kthvalue any all median"

RULES = {
    "index": index,
    "index_select": index_select,
    "gather": gather,
    "scatter": scatter,
    "index_put": put,
    "nonzero": told,
    "nms": told,
    "topk": chosen,
    "argmax": chosen,
    "flip": turned,
    "roll": turned,
} | dict.fromkeys(_RANKED.split(), ranked)
