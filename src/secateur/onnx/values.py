"""Values of an ONNX graph: tensors of torch, and small arrays of numpy that stand for sizes and settings."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

import onnx
from onnx import TensorProto
from secateur.core import SubjectError

Value = Tensor | np.ndarray | list[Any] | None
"""What an operator takes and gives; None is an optional input that is absent."""

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.BOOL: torch.bool,
    TensorProto.COMPLEX64: torch.complex64,
    TensorProto.COMPLEX128: torch.complex128,
}


def dtype_of(kind: int, where: str) -> torch.dtype:
    """The dtype of torch for a type of ONNX. Raises `SubjectError` for quantised and unknown ones."""
    if kind not in DTYPES:
        raise SubjectError(
            f"numbers of type {TensorProto.DataType.Name(kind)} are not supported",
            where=where,
            mend="prune the model before it is quantised",
        )
    return DTYPES[kind]


def tensor_of(array: np.ndarray) -> Tensor:
    """A tensor of its own with these values."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16).reshape(array.shape)
    return torch.tensor(np.ascontiguousarray(array).reshape(array.shape))


def array_of(tensor: Tensor) -> np.ndarray:
    """An array with the values of a tensor; bfloat16 is the type that onnx knows."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
    return tensor.numpy()


def numbers_of(value: Value) -> Any:
    """Plain Python numbers, in lists as the value has dimensions; None where there is none."""
    return None if value is None or isinstance(value, list) else value.tolist()
