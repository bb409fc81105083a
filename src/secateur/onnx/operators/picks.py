"""Operators that pick positions by number, or tell numbers of positions."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..values import tensor_of
from .table import operator


def _on(x: Tensor, numbers: Any) -> Tensor:
    return numbers if isinstance(numbers, Tensor) else tensor_of(np.asarray(numbers)).to(x.device)


@operator("Gather", scalars=True)
def gather(at: Any, x: Tensor, indices: Any) -> Tensor:
    """Positions of one dimension; negative numbers count from its end."""
    axis = at.axis % max(x.dim(), 1)
    if isinstance(indices, int):
        return x.select(axis, indices)
    indices = _on(x, indices)
    if isinstance(x, nn.Parameter) and x.dim() == 2 and axis == 0:
        return F.embedding(indices, x)
    shape = [*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]]
    return x.index_select(axis, _positive(indices.reshape(-1), x.shape[axis])).reshape(shape)


def _positive(indices: Tensor, size: int) -> Tensor:
    return torch.where(indices < 0, indices + size, indices).long()


@operator("GatherElements")
def gather_elements(at: Any, x: Tensor, indices: Tensor) -> Tensor:
    """One position for each entry."""
    return x.gather(at.axis, _positive(indices, x.shape[at.axis]))


@operator("GatherND")
def gather_nd(at: Any, x: Tensor, indices: Tensor) -> Tensor:
    """Slices whose places stand in the last dimension of the numbers."""
    lead = at.get("batch_dims", 0)
    picks = [_positive(i, x.shape[lead + k]) for k, i in enumerate(indices.unbind(-1))]
    rows = []
    for d in range(lead):
        shape = [1] * (indices.dim() - 1)
        shape[d] = x.shape[d]
        rows.append(torch.arange(x.shape[d], device=x.device).reshape(shape))
    return x[(*rows, *picks)]


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@operator("ScatterElements", "Scatter")
def scatter_elements(at: Any, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Entries written to positions told by number."""
    indices = _positive(indices, x.shape[at.axis])
    reduction = at.get("reduction", "none")
    if reduction == "none":
        return x.scatter(at.axis, indices, updates)
    return x.scatter_reduce(at.axis, indices, updates, _REDUCTIONS[reduction])


@operator("ScatterND")
def scatter_nd(at: Any, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Slices written to places told by number."""
    picks = tuple(_positive(i, x.shape[k]) for k, i in enumerate(indices.unbind(-1)))
    reduction = at.get("reduction", "none")
    if reduction in ("none", "add"):
        return x.index_put(picks, updates, accumulate=reduction == "add")
    numbers = torch.arange(x.numel(), device=x.device).reshape(x.shape)[picks].reshape(-1)
    made = x.reshape(-1).scatter_reduce(0, numbers, updates.reshape(-1), _REDUCTIONS[reduction])
    return made.reshape(x.shape)


@operator("TopK", since=1)
def top_k_by_attribute(at: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The largest and their numbers."""
    values, numbers = torch.topk(x, at.k, at.axis)
    return values, numbers


@operator("TopK", since=10, numbers="k")
def top_k(at: Any, x: Tensor, k: Any) -> tuple[Tensor, Tensor]:
    """The largest, or the smallest, and their numbers."""
    count = k[0] if isinstance(k, list) else k
    largest = bool(at.get("largest", 1))
    if not x.is_floating_point():  # ties are usual, and the first of them wins
        values, numbers = torch.sort(x, dim=at.axis, descending=largest, stable=True)
        return values.narrow(at.axis, 0, count), numbers.narrow(at.axis, 0, count)
    values, numbers = torch.topk(x, count, at.axis, largest, bool(at.get("sorted", 1)))
    return values, numbers


@operator("NonZero", since=9)
def non_zero(at: Any, x: Tensor) -> Tensor:
    """Places of what is not zero, one in each column."""
    return x.nonzero().t()


@operator("OneHot", since=9, numbers="depth")
def one_hot(at: Any, indices: Tensor, depth: Any, values: Tensor) -> Tensor:
    """One value where the number says, another elsewhere."""
    size = int(depth[0] if isinstance(depth, list) else depth)
    indices = _positive(indices.long(), size)
    inside = (indices >= 0) & (indices < size)
    axis = at.axis if at.axis >= 0 else at.axis + indices.dim() + 1
    places = torch.arange(size, device=indices.device).reshape(
        [-1 if d == axis else 1 for d in range(indices.dim() + 1)]
    )
    hit = (indices.unsqueeze(axis) == places) & inside.unsqueeze(axis)
    return torch.where(hit, values[1], values[0])


@operator("Compress", since=9)
def compress(at: Any, x: Tensor, condition: Tensor) -> Tensor:
    """Positions where a condition holds."""
    axis = at.get("axis")
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
    return x.index_select(axis, condition.nonzero().reshape(-1))


@operator("Trilu", since=14, numbers="k")
def triangle(at: Any, x: Tensor, k: Any = None) -> Tensor:
    """Above or below a diagonal."""
    k = k[0] if isinstance(k, list) else k or 0
    return torch.triu(x, k) if at.upper else torch.tril(x, k)


@operator("GridSample", since=16)
def grid_sample(at: Any, x: Tensor, grid: Tensor) -> Tensor:
    """A picture read at places told by numbers from -1 to 1."""
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(at.mode, at.mode)
    return F.grid_sample(x, grid, mode, at.padding_mode, bool(at.align_corners))
