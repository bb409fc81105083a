"""Operators that multiply: convolutions and matrix products."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .space import padded, window_of
from .table import operator

_CONV = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}
_TRANSPOSED = {1: torch.conv_transpose1d, 2: torch.conv_transpose2d, 3: torch.conv_transpose3d}


@operator("Conv")
def conv(at: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A convolution; padding that differs before and after is made first."""
    strides, dilations, before, after = window_of(at, x.shape[2:], weight.shape[2:])
    padding = before if before == after else [0] * len(before)
    if before != after:
        x = padded(x, before, after)
    return _CONV[len(before)](x, weight, bias, strides, padding, dilations, at.groups)


@operator("ConvTranspose")
def conv_transpose(at: Any, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A transposed convolution; what ONNX calls pads is cut off its output."""
    kernel, sizes = weight.shape[2:], x.shape[2:]
    strides, dilations, before, after = window_of(at, sizes, kernel)
    extra = list(at.get("output_padding") or [0] * len(kernel))
    whole = [
        s * (n - 1) + e + (k - 1) * d + 1
        for s, n, e, k, d in zip(strides, sizes, extra, kernel, dilations, strict=True)
    ]
    wanted, auto = at.get("output_shape"), at.get("auto_pad", "NOTSET")
    if wanted or auto.startswith("SAME"):
        wanted = wanted or [n * s for n, s in zip(sizes, strides, strict=True)]
        total = [w - o for w, o in zip(whole, wanted[-len(kernel) :], strict=True)]
        less = [max(t, 0) // 2 for t in total]  # what is missing is added behind
        more = [t - h for t, h in zip(total, less, strict=True)]
        turn = auto != "SAME_UPPER" and min(total) >= 0
        before, after = (more, less) if turn else (less, more)
    if before == after and all(e < max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        return _TRANSPOSED[len(kernel)](x, weight, bias, strides, before, extra, at.groups, dilations)
    made = _TRANSPOSED[len(kernel)](x, weight, bias, strides, 0, 0, at.groups, dilations)
    grow = [w - m for w, m in zip(whole, made.shape[2:], strict=True)]
    if any(grow):  # nothing is added there but the bias
        made = padded(made if bias is None else made - _along(bias, made), [0] * len(grow), grow)
        made = made if bias is None else made + _along(bias, made)
    return padded(made, [-b for b in before], [-a for a in after])


def _along(bias: Tensor, x: Tensor) -> Tensor:
    return bias.reshape(-1, *[1] * (x.dim() - 2))


@operator("Gemm", since=7)
def gemm(at: Any, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha a b + beta c, with a and b turned if so told."""
    a = a.t() if at.transA else a
    plain = at.alpha == 1 and at.beta == 1
    if at.transB and plain and (c is None or c.dim() == 1) and b.dim() == 2:
        fits = c is None or c.shape[0] == b.shape[0]
        made = F.linear(a, b, c if fits else None)
        return made if fits or c is None else made + c
    made = torch.matmul(a, b.t() if at.transB else b)
    made = made if at.alpha == 1 else made * at.alpha
    return made if c is None else made + (c if at.beta == 1 else c * at.beta)


@operator("MatMul")
def matmul(at: Any, a: Tensor, b: Tensor) -> Tensor:
    """A product of matrices in the last two dimensions."""
    return torch.matmul(a, b)


@operator("Einsum")
def einsum(at: Any, *inputs: Tensor) -> Tensor:
    """A sum of products by its formula."""
    return torch.einsum(at.equation, *inputs)


@operator("Det")
def determinant(at: Any, x: Tensor) -> Tensor:
    """Of the last two dimensions."""
    return torch.linalg.det(x)
