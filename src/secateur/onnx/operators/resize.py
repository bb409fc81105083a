"""Pictures of another size."""

from math import ceil, floor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .table import operator

_BY_TORCH = {("nearest", 3): "nearest", ("nearest", 4): "nearest", ("nearest", 5): "nearest"}
_BY_TORCH |= {("linear", 3): "linear", ("linear", 4): "bilinear", ("linear", 5): "trilinear", ("cubic", 4): "bicubic"}


@operator("Upsample", since=7)
def upsample_by_attribute(at: Any, x: Tensor) -> Tensor:
    """By scales."""
    return _resized(at, x, list(at.scales), None, {"place": "asymmetric", "nearest": "floor"})


@operator("Upsample", since=9, numbers="scales")
def upsample(at: Any, x: Tensor, scales: list[float]) -> Tensor:
    """By scales."""
    return _resized(at, x, scales, None, {"place": "asymmetric", "nearest": "floor"})


@operator("Resize", since=10, numbers="scales")
def resize_by_scales(at: Any, x: Tensor, scales: list[float]) -> Tensor:
    """By scales."""
    return _resized(at, x, scales, None, {"place": "asymmetric", "nearest": "floor"})


@operator("Resize", since=11, numbers="roi scales sizes")
def resize(at: Any, x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
    """By scales or to sizes."""
    axes = at.get("axes")
    axes = list(range(x.dim())) if axes is None else [a % x.dim() for a in axes]
    policy = at.get("keep_aspect_ratio_policy", "stretch")
    roi = _whole(roi, axes, x.dim()) if roi else None
    if sizes:
        if policy != "stretch":
            each = [n / x.shape[a] for n, a in zip(sizes, axes, strict=True)]
            scale = min(each) if policy == "not_larger" else max(each)
            sizes, scales = [floor(scale * x.shape[a] + 0.5) for a in axes], [scale] * len(axes)
        full = list(x.shape)
        if len(axes) == x.dim() > 2:
            x = x.expand(*sizes[:2], *x.shape[2:])  # samples and channels are as many as the constant says
        for a, n in zip(axes, sizes, strict=True):
            full[a] = n
        given = None if not scales else [1.0] * x.dim()
        for a, s in zip(axes, scales or [], strict=True) if given else ():
            given[a] = s  # type: ignore[index]
        return _resized(at, x, given, full, {"roi": roi})
    full_scales = [1.0] * x.dim()
    for a, s in zip(axes, scales, strict=True):
        full_scales[a] = s
    return _resized(at, x, full_scales, None, {"roi": roi})


def _whole(roi: list[float], axes: list[int], rank: int) -> list[tuple[float, float]]:
    found = [(0.0, 1.0)] * rank
    for k, a in enumerate(axes):
        found[a] = roi[k], roi[len(axes) + k]
    return found


def _resized(at: Any, x: Tensor, scales: list[float] | None, sizes: list[int] | None, how: dict[str, Any]) -> Tensor:
    place = how.get("place") or at.get("coordinate_transformation_mode", "half_pixel")
    rounding = how.get("nearest") or at.get("nearest_mode", "round_prefer_floor")
    roi = how.get("roi")
    roi = roi if place == "tf_crop_and_resize" else None
    if sizes is None:
        assert scales is not None
        spans = [end - begin for begin, end in roi] if roi is not None else [1.0] * x.dim()
        sizes = [floor(n * s * span + 1e-9) for n, s, span in zip(x.shape, scales, spans, strict=True)]
    each = scales or [m / n for m, n in zip(sizes, x.shape, strict=True)]
    changed = [d for d in range(x.dim()) if sizes[d] != x.shape[d] or each[d] != 1 or roi is not None]
    if not changed:
        return x
    mode, smooth = at.get("mode", "nearest"), bool(at.get("antialias", 0))
    simple = min(changed) >= 2 and (mode, x.dim()) in _BY_TORCH and x.is_floating_point()
    if simple and not smooth and not at.get("exclude_outside", 0) and at.get("cubic_coeff_a", -0.75) == -0.75:
        name, corners = _BY_TORCH[mode, x.dim()], place == "align_corners"
        exact = all(sizes[d] == n * each[d] or abs(sizes[d] / n - each[d]) < 1e-12 for d, n in enumerate(x.shape))
        if mode == "nearest" and (place, rounding) == ("asymmetric", "floor") and exact:
            return F.interpolate(x, sizes[2:], mode="nearest")
        grown = all(sizes[d] > 1 for d in changed)
        if (
            mode != "nearest"
            and exact
            and (corners or place == "half_pixel" or (place == "pytorch_half_pixel" and grown))
        ):
            return F.interpolate(x, sizes[2:], mode=name, align_corners=corners)
    for d in changed:
        rows = _matrix(at, x.shape[d], sizes[d], each[d], mode, place, rounding, smooth, roi[d] if roi else (0.0, 1.0))
        weights = torch.from_numpy(rows).to(x.device, x.dtype if x.is_floating_point() else torch.float64)
        moved = x.movedim(d, -1)
        made = torch.matmul(moved.to(weights.dtype), weights.t())
        if roi is not None:
            outside = torch.from_numpy(np.isnan(rows).any(1)).to(x.device)
            made = torch.matmul(moved.to(weights.dtype), weights.nan_to_num().t())
            made = torch.where(outside, torch.full_like(made, at.get("extrapolation_value", 0.0)), made)
        x = (made if x.is_floating_point() else made.round().to(x.dtype)).movedim(-1, d)
    return x


def _matrix(
    at: Any,
    old: int,
    new: int,
    scale: float,
    mode: str,
    place: str,
    rounding: str,
    smooth: bool,
    roi: tuple[float, float],
) -> np.ndarray:
    """`[new, old]`: how much of each old position lies in each new one; NaN for a place outside of a crop."""
    rows = np.zeros((new, old))
    for i in range(new):
        at_old = _place(i, old, new, scale, place, roi)
        if place == "tf_crop_and_resize" and not 0 <= at_old <= old - 1:
            rows[i] = np.nan
            continue
        if mode == "nearest":
            rows[i, min(max(_rounded(at_old, rounding), 0), old - 1)] = 1
            continue
        shrink = min(scale, 1.0) if smooth else 1.0
        reach = (1 if mode == "linear" else 2) / shrink
        places = range(floor(at_old - reach) + 1, ceil(at_old + reach))
        weigh = _linear if mode == "linear" else _cubic
        amounts = np.array([weigh(shrink * (p - at_old), at.get("cubic_coeff_a", -0.75)) for p in places])
        if at.get("exclude_outside", 0):
            amounts = np.array([a if 0 <= p < old else 0.0 for a, p in zip(amounts, places, strict=True)])
        amounts = amounts / amounts.sum()
        for p, amount in zip(places, amounts, strict=True):
            rows[i, min(max(p, 0), old - 1)] += amount
    return rows


def _place(i: int, old: int, new: int, scale: float, place: str, roi: tuple[float, float]) -> float:
    if place == "align_corners":
        return 0.0 if new == 1 else i * (old - 1) / (scale * old - 1)
    if place == "asymmetric":
        return i / scale
    if place == "tf_crop_and_resize":
        begin, end = roi
        if new == 1:
            return 0.5 * (begin + end) * (old - 1)
        return begin * (old - 1) + i * (end - begin) * (old - 1) / (new - 1)
    if place == "pytorch_half_pixel":
        return (i + 0.5) / scale - 0.5 if new > 1 else 0.0
    if place == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if place == "half_pixel_symmetric":
        return old / 2 * (1 - new / (scale * old)) + (i + 0.5) / scale - 0.5
    return (i + 0.5) / scale - 0.5


def _rounded(x: float, rounding: str) -> int:
    if rounding == "floor":
        return floor(x)
    if rounding == "ceil":
        return ceil(x)
    half = x == floor(x) + 0.5
    return floor(x) + (rounding == "round_prefer_ceil") if half else floor(x + 0.5)


def _linear(x: float, _a: float) -> float:
    return max(1 - abs(x), 0.0)


def _cubic(x: float, a: float) -> float:
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0
