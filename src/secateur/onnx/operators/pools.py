"""Pools."""

from collections.abc import Sequence
from itertools import product
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .space import padded, window_of
from .table import operator

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _more(
    at: Any, sizes: Sequence[int], before: list[int], after: list[int], strides: list[int], reach: list[int]
) -> list[int]:
    """What is padded after, so that a last window that begins inside has a whole kernel."""
    if not at.get("ceil_mode", 0):
        return after
    found = []
    for n, b, a, s, r in zip(sizes, before, after, strides, reach, strict=True):
        windows = ceil((n + b + a - r) / s) + 1
        if (windows - 1) * s >= n + b:
            windows -= 1
        found.append(max((windows - 1) * s + r - n - b, a))
    return found


@operator("MaxPool")
def max_pool(at: Any, x: Tensor) -> Any:
    """The largest of each window, and where it lies if that is wanted."""
    kernel, sizes = list(at.kernel_shape), list(x.shape[2:])
    strides, dilations, before, after = window_of(at, sizes, kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    after = _more(at, sizes, before, after, strides, reach)
    if (
        at.wanted == 1
        and before == after
        and all(2 * b <= k for b, k in zip(before, kernel, strict=True))
        and x.is_floating_point()
    ):
        return _MAX[len(kernel)](x, kernel, strides, before, dilations)
    lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    wide = padded(x, before, after, lowest)
    windows = _windows(wide, kernel, strides, dilations)
    if at.wanted == 1:
        return windows.amax(-1)
    numbers = torch.arange(x[0, 0].numel(), device=x.device).reshape(sizes)
    if at.get("storage_order", 0):
        numbers = (
            torch.arange(x[0, 0].numel(), device=x.device).reshape(sizes[::-1]).permute(*reversed(range(len(sizes))))
        )
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *[1] * len(sizes))
    numbers = planes * x[0, 0].numel() + numbers
    where = _windows(padded(numbers, before, after, -1), kernel, strides, dilations)
    best = windows.argmax(-1, keepdim=True)
    return windows.gather(-1, best).squeeze(-1), where.gather(-1, best).squeeze(-1)


def _windows(x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Tensor:
    """`[N, C, ...places, kernel positions]`."""
    space = [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True)]
    found = []
    for offset in product(*map(range, kernel)):
        piece = x
        for i, (o, s, d, n) in enumerate(zip(offset, strides, dilations, space, strict=True)):
            piece = piece.narrow(2 + i, o * d, (n - 1) * s + 1)
            piece = piece[(slice(None),) * (2 + i) + (slice(None, None, s),)]
        found.append(piece)
    return torch.stack(found, -1)


@operator("AveragePool")
def average_pool(at: Any, x: Tensor) -> Tensor:
    """The mean of each window, of what is padded or of what is there."""
    kernel, sizes = list(at.kernel_shape), list(x.shape[2:])
    strides, dilations, before, after = window_of(at, sizes, kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    more = _more(at, sizes, before, after, strides, reach)
    whole = bool(at.get("count_include_pad", 0))
    small = all(2 * b <= k for b, k in zip(before, kernel, strict=True))
    if before == more == after and small and set(dilations) == {1}:
        return _AVERAGE[len(kernel)](x, kernel, strides, before, count_include_pad=whole)
    there = torch.ones([1, 1, *sizes], dtype=x.dtype, device=x.device)
    there = padded(
        padded(there, before, after, float(whole)), [0] * len(kernel), [m - a for m, a in zip(more, after, strict=True)]
    )
    totals = _windows(padded(x, before, more), kernel, strides, dilations).sum(-1)
    return totals / _windows(there, kernel, strides, dilations).sum(-1)


@operator("LpPool", since=2)
def lp_pool(at: Any, x: Tensor) -> Tensor:
    """The norm of each window."""
    kernel, sizes = list(at.kernel_shape), list(x.shape[2:])
    strides, dilations, before, after = window_of(at, sizes, kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    wide = padded(x.abs(), before, _more(at, sizes, before, after, strides, reach))
    return (_windows(wide, kernel, strides, dilations) ** at.p).sum(-1) ** (1 / at.p)


@operator("GlobalAveragePool")
def global_average(at: Any, x: Tensor) -> Tensor:
    """The mean of each channel."""
    return x.mean(list(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def global_max(at: Any, x: Tensor) -> Tensor:
    """The largest of each channel."""
    return x.amax(list(range(2, x.dim())), keepdim=True)


@operator("GlobalLpPool", since=2)
def global_lp(at: Any, x: Tensor) -> Tensor:
    """The norm of each channel."""
    return (x.abs() ** at.p).sum(list(range(2, x.dim())), keepdim=True) ** (1 / at.p)
