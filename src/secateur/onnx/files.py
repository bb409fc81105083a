"""Opening an ONNX file: what can be wrong with it is told before anything is built."""

import os
from pathlib import Path

from google.protobuf.message import DecodeError

import onnx
from onnx import TensorProto
from secateur.core import CheckpointError, SubjectError
from secateur.core.files import open_plain, unreadable

_MOST_IN_ONE = (1 << 31) - 1
"""Bytes that a message of protobuf can hold."""
_RESTORE = "restore it from a copy, or export it again"


def opened(file: Path) -> tuple[onnx.ModelProto, bool]:
    """The model of a file, with its external data, and whether it had any.

    Raises:
        CheckpointError: there is no such file; it is no ONNX file, or truncated; its external data is missing.
        SubjectError: its graph is not valid.
    """
    try:
        with os.fdopen(open_plain(file.resolve() if file.exists() else file), "rb") as handle:
            content = handle.read()
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise unreadable(file, error) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except (DecodeError, ValueError) as error:
        raise _damaged(file) from error
    if not model.ir_version or not (model.graph.node or model.graph.output):
        raise _damaged(file)
    external = _load_external(model, file)
    _check(model, file)
    return model, external


def _damaged(file: Path) -> CheckpointError:
    return CheckpointError("it is no ONNX file, or a truncated one", where=str(file), mend=_RESTORE)


def _load_external(model: onnx.ModelProto, file: Path) -> bool:
    found = False
    for tensor in onnx.external_data_helper._get_all_tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        found = True
        told = {entry.key: entry.value for entry in tensor.external_data}
        place = file.parent / told.get("location", "")
        if not place.is_file():
            raise CheckpointError(
                f"its external data is missing: there is no file {told.get('location', '')!r} beside it",
                where=str(file),
                mend="put the file that belongs to it in the same folder",
            )
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(file.parent))
        except Exception as error:  # what onnx raises for a path that leads elsewhere, or a file that is too short
            raise CheckpointError(
                f"its external data {told['location']!r} cannot be read: {_first_line(error)}",
                where=str(file),
                mend=_RESTORE,
            ) from error
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
        wanted = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for size in tensor.dims:
            wanted *= size
        if len(tensor.raw_data) != wanted:
            raise CheckpointError(
                f"its external data {told['location']!r} is too short for {tensor.name!r}",
                where=str(file),
                mend=_RESTORE,
            )
    return found


def _check(model: onnx.ModelProto, file: Path) -> None:
    try:
        if model.ByteSize() <= _MOST_IN_ONE:
            onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise SubjectError(
            f"its graph is not valid: {_first_line(error)}", where=str(file), mend="export the model again"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def is_large(model: onnx.ModelProto) -> bool:
    """Whether a model does not fit into one file."""
    return bool(model.ByteSize() > _MOST_IN_ONE)
