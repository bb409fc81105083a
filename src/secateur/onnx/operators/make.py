"""Operators that make tensors of nothing but sizes."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..values import dtype_of, tensor_of
from .table import operator


@operator("ConstantOfShape", since=9, numbers="shape")
def constant_of_shape(at: Any, shape: list[int]) -> Tensor:
    """The same number everywhere."""
    value = at.get("value", np.zeros(1, np.float32))
    one = tensor_of(value)
    return torch.full(shape, one.item(), dtype=one.dtype)


@operator("Range", since=11, raw="start limit delta")
def arange(at: Any, start: Any, limit: Any, delta: Any) -> Tensor:
    """Numbers at equal distances."""
    one = start if isinstance(start, Tensor) else tensor_of(np.asarray(start))
    begin, end, step = (v.item() for v in (start, limit, delta))
    made = torch.arange(float(begin), float(end), float(step)) if one.is_floating_point() else None
    return made.to(one.dtype) if made is not None else torch.arange(begin, end, step, dtype=one.dtype)


@operator("EyeLike", since=9)
def eye_like(at: Any, x: Tensor) -> Tensor:
    """Ones on a diagonal."""
    kind = x.dtype if at.get("dtype") is None else dtype_of(at.dtype, f"node {at.title}")
    rows, columns = (torch.arange(n, device=x.device) for n in x.shape)
    return (rows.unsqueeze(1) + at.k == columns).to(kind)
