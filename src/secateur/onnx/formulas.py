"""Arithmetic of sizes: what an exporter writes as a dozen operators on shapes is computed on small arrays of numpy.

Each operation owns the formulas of its inputs. So the constants in them are attributes of the operation that uses the
sizes, also where an exporter computes one size for many, and a cut may change one of them and not the others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

import onnx


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant of the graph, kept as an attribute: a number, or a tuple of them.

    Attributes:
        attribute: its name.
        source: name of the value in the graph.
        dtype: of the array.
        shape: of the array where it has two dimensions or more.
    """

    attribute: str
    source: str
    dtype: np.dtype
    shape: tuple[int, ...] | None


@dataclass(frozen=True, eq=False)
class Given:
    """A tensor that the operation is given, by its place."""

    place: int


@dataclass(frozen=True, eq=False)
class Formula:
    """One operator on small arrays.

    Attributes:
        node: its number in the graph.
        op: the operator; attributes: of the node.
        parts: its inputs.
        out: which of its outputs is wanted.
        outs: how many it has.
    """

    node: int
    op: str
    attributes: Mapping[str, Any]
    parts: tuple["Part", ...]
    out: int
    outs: int


Part = Constant | Given | Formula | None


def value_of(part: Part, holder: object, given: Sequence[Any], known: dict[int, Any] | None = None) -> Any:
    """What a part is for these tensors.

    Args:
        holder: has the constants as attributes.
        known: formulas that are computed already, by id.
    """
    known = {} if known is None else known
    if part is None:
        return None
    if isinstance(part, Given):
        return given[part.place]
    if isinstance(part, Constant):
        array = np.asarray(getattr(holder, part.attribute), part.dtype)
        return array if part.shape is None else array.reshape(part.shape)
    if id(part) not in known:
        found = FORMULAS[part.op](_Settings(part), *(value_of(p, holder, given, known) for p in part.parts))
        known[id(part)] = found[part.out] if isinstance(found, tuple | list) else found
    return known[id(part)]


def constants_of(part: Part) -> Iterator[Constant]:
    """The constants of a formula, each once."""
    seen: set[int] = set()
    pending = [part]
    while pending:
        now = pending.pop()
        if id(now) in seen:
            continue
        seen.add(id(now))
        if isinstance(now, Constant):
            yield now
        elif isinstance(now, Formula):
            pending += now.parts


class _Settings:
    def __init__(self, formula: Formula) -> None:
        self._held, self.outs = formula.attributes, formula.outs

    def __call__(self, name: str, default: Any = None) -> Any:
        return self._held.get(name, default)


def _axes(at: _Settings, given: Any, default: Any = None) -> Any:
    found = at("axes", default) if given is None else np.atleast_1d(given).tolist()
    return None if found is None else tuple(found)


def _shape(at: _Settings, x: Any) -> Any:
    sizes = list(x.shape)
    return np.array(sizes[slice(at("start", 0), at("end"))], np.int64)


def _divided(at: _Settings, a: Any, b: Any) -> Any:
    if a.dtype.kind == "f":
        return a / b
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)


def _cast(at: _Settings, x: Any) -> Any:
    return x.astype(onnx.helper.tensor_dtype_to_np_dtype(at("to")))


def _unsqueezed(at: _Settings, x: Any, axes: Any = None) -> Any:
    return np.expand_dims(x, _axes(at, axes))


def _squeezed(at: _Settings, x: Any, axes: Any = None) -> Any:
    return np.squeeze(x, _axes(at, axes))


def _sliced(at: _Settings, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    starts, ends = (at(n) if v is None else v.tolist() for n, v in (("starts", starts), ("ends", ends)))
    given = _axes(at, axes) or range(len(starts))
    picks = [slice(None)] * x.ndim
    for axis, start, end, step in zip(given, starts, ends, [1] * len(starts) if steps is None else steps, strict=True):
        step = int(step)
        end = None if step < 0 and end < -x.shape[axis] else end
        picks[axis] = slice(start, end, step)
    return x[tuple(picks)]


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduced(at: _Settings, x: Any, axes: Any = None) -> Any:
        made = function(x, axis=_axes(at, axes), keepdims=bool(at("keepdims", 1)))
        return np.asarray(made, x.dtype)

    return reduced


def _split(at: _Settings, x: Any, sizes: Any = None) -> Any:
    sizes = at("split") if sizes is None else sizes.tolist()
    if sizes is None:
        each = -(-x.shape[at("axis", 0)] // at.outs)
        return tuple(np.split(x, range(each, x.shape[at("axis", 0)], each), at("axis", 0)))
    return tuple(np.split(x, np.cumsum(sizes)[:-1], at("axis", 0)))


def _reshaped(at: _Settings, x: Any, shape: Any) -> Any:
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape.tolist())])


def _filled(at: _Settings, shape: Any) -> Any:
    value = at("value", np.zeros(1, np.float32))
    return np.full(shape.tolist(), value.reshape(-1)[0], value.dtype)


def _scattered(at: _Settings, x: Any, indices: Any, updates: Any) -> Any:
    made = x.copy()
    made[tuple(np.moveaxis(indices, -1, 0))] = updates
    return made


FORMULAS: dict[str, Callable[..., Any]] = {
    "Shape": _shape,
    "Size": lambda at, x: np.int64(prod(x.shape)),
    "Identity": lambda at, x: x,
    "Gather": lambda at, x, i: np.take(x, i, at("axis", 0)),
    "Slice": _sliced,
    "Concat": lambda at, *xs: np.concatenate(xs, at("axis", 0)),
    "Unsqueeze": _unsqueezed,
    "Squeeze": _squeezed,
    "Reshape": _reshaped,
    "Transpose": lambda at, x: np.transpose(x, at("perm")),
    "Expand": lambda at, x, shape: x * np.ones(shape.tolist(), x.dtype),
    "Tile": lambda at, x, repeats: np.tile(x, repeats.tolist()),
    "Split": _split,
    "ConstantOfShape": _filled,
    "ScatterND": _scattered,
    "Cast": _cast,
    "Add": lambda at, a, b: a + b,
    "Sub": lambda at, a, b: a - b,
    "Mul": lambda at, a, b: a * b,
    "Div": _divided,
    "Mod": lambda at, a, b: np.fmod(a, b) if at("fmod", 0) else np.mod(a, b),
    "Pow": lambda at, a, b: np.power(a, b).astype(a.dtype),
    "Neg": lambda at, x: -x,
    "Abs": lambda at, x: np.abs(x),
    "Sqrt": lambda at, x: np.sqrt(x),
    "Reciprocal": lambda at, x: np.reciprocal(x),
    "Floor": lambda at, x: np.floor(x),
    "Ceil": lambda at, x: np.ceil(x),
    "Round": lambda at, x: np.round(x),
    "Min": lambda at, *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
    "Max": lambda at, *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
    "Equal": lambda at, a, b: a == b,
    "Less": lambda at, a, b: a < b,
    "LessOrEqual": lambda at, a, b: a <= b,
    "Greater": lambda at, a, b: a > b,
    "GreaterOrEqual": lambda at, a, b: a >= b,
    "And": lambda at, a, b: a & b,
    "Or": lambda at, a, b: a | b,
    "Not": lambda at, x: ~x,
    "Where": lambda at, c, x, y: np.where(c, x, y),
    "ReduceSum": _reduction(np.sum),
    "ReduceProd": _reduction(np.prod),
    "ReduceMax": _reduction(np.max),
    "ReduceMin": _reduction(np.min),
}
"""What is computed on small arrays where all that it takes is small."""
