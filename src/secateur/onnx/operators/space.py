"""Windows that slide: what is padded around a picture before a convolution or a pool runs over it."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor


def window_of(
    at: Any, sizes: Sequence[int], kernel: Sequence[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """(strides, dilations, what is padded before, what is padded after), one for each dimension of space.

    Args:
        at: the operation, with `strides`, `dilations`, `pads` and `auto_pad` where they are given.
        sizes: of the input in space.
    """
    rank = len(kernel)
    strides, dilations = list(at.get("strides") or [1] * rank), list(at.get("dilations") or [1] * rank)
    auto = at.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID", ""):
        pads = list(at.get("pads") or [0] * (2 * rank)) if auto != "VALID" else [0] * (2 * rank)
        return strides, dilations, pads[:rank], pads[rank:]
    before, after = [], []
    for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        less, more = total // 2, total - total // 2
        before.append(less if auto == "SAME_UPPER" else more)
        after.append(more if auto == "SAME_UPPER" else less)
    return strides, dilations, before, after


def padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """More positions around the last dimensions."""
    if not any(before) and not any(after):
        return x
    pads = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
    return F.pad(x, pads, value=value)
