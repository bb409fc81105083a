"""Operators over whole dimensions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .table import operator

_Reduction = Callable[[Tensor, list[int], bool], Tensor]


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _extreme(x: Tensor, axes: list[int], keep: bool, largest: bool) -> Tensor:
    if x.dtype == torch.bool:
        return _extreme(x.to(torch.uint8), axes, keep, largest).bool()
    sizes = [x.shape[a] for a in axes]
    if 0 in sizes:  # of nothing: what any other number replaces
        shape = [1 if d in [a % x.dim() for a in axes] else n for d, n in enumerate(x.shape)]
        shape = shape if keep else [n for d, n in enumerate(x.shape) if d not in [a % x.dim() for a in axes]]
        if x.is_floating_point():
            return x.new_full(shape, float("-inf") if largest else float("inf"))
        return x.new_full(shape, torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max)
    return (torch.amax if largest else torch.amin)(x, axes, keepdim=keep)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.mean(axes, keepdim=keep) if x.is_floating_point() else x.double().mean(axes, keepdim=keep).to(x.dtype)


_KINDS: dict[str, _Reduction] = {
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceMean": _mean,
    "ReduceMax": lambda x, axes, keep: _extreme(x, axes, keep, True),
    "ReduceMin": lambda x, axes, keep: _extreme(x, axes, keep, False),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceL2": lambda x, axes, keep: (
        (x * x).sum(axes, keepdim=keep, dtype=x.dtype).float().sqrt().to(x.dtype)
        if x.dtype != torch.float64
        else (x * x).sum(axes, keepdim=keep).sqrt()
    ),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
}


def _reduced(at: Any, x: Tensor, axes: Any) -> Tensor:
    axes = [axes] if isinstance(axes, int) else list(axes or [])
    if not axes and at.get("noop_with_empty_axes", 0):
        return _KINDS[at.op](x.unsqueeze(0), [0], False) if at.op in _EACH else x
    axes = axes or list(range(x.dim()))
    return _KINDS[at.op](x, axes, bool(at.keepdims)) if axes else x


_EACH = ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
"""Those that change a number even where there is nothing to sum it with."""


@operator(*_KINDS)
def reduce_by_attributes(at: Any, x: Tensor) -> Tensor:
    """Over the axes of an attribute."""
    return _reduced(at, x, at.get("axes"))


@operator("ReduceSum", since=13, numbers="axes")
def reduce_sum(at: Any, x: Tensor, axes: Any = None) -> Tensor:
    """Over the axes of an input."""
    return _reduced(at, x, axes)


@operator(*(name for name in _KINDS if name != "ReduceSum"), since=18, numbers="axes")
def reduce(at: Any, x: Tensor, axes: Any = None) -> Tensor:
    """Over the axes of an input."""
    return _reduced(at, x, axes)


@operator("ArgMax", "ArgMin")
def arg_extreme(at: Any, x: Tensor) -> Tensor:
    """Where the largest or smallest lies: the first of those, or the last."""
    pick = torch.argmax if at.op == "ArgMax" else torch.argmin
    if not at.get("select_last_index", 0):
        return pick(x, at.axis, keepdim=bool(at.keepdims))
    return x.shape[at.axis] - 1 - pick(x.flip(at.axis), at.axis, keepdim=bool(at.keepdims))


@operator("CumSum", numbers="axis")
def cumulated(at: Any, x: Tensor, axis: Any) -> Tensor:
    """Sums of all positions up to each, or of those before it; forwards or backwards."""
    axis = axis[0] if isinstance(axis, list) else axis
    x = x.flip(axis) if at.reverse else x
    made = x.cumsum(axis, dtype=x.dtype)
    made = made - x if at.exclusive else made
    return made.flip(axis) if at.reverse else made
