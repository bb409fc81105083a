"""Nested state in one safetensors file: tensors as they are, everything else as JSON beside them. Never pickle."""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from secateur.core import CheckpointError
from secateur.core.files import unwritable

from .reading import TensorFile

_TREE = "tree"


def aligned(content: bytes) -> bytes:
    """A safetensors file whose data begins at a multiple of 64 bytes: its header ends with as many spaces as it takes.

    Mapped tensors of usual sizes then lie at addresses that need no copy.
    """
    length = int.from_bytes(content[:8], "little")
    spaces = -(8 + length) % 64
    header = content[8 : 8 + length] + b" " * spaces
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def save_state(path: Path, state: Any) -> None:
    """Write nested dicts, lists and tuples of tensors and plain values; the file appears whole or not at all."""
    tensors: dict[str, Tensor] = {}
    tree = _flatten(state, tensors)
    write_atomically(path, save(_separate(tensors), metadata={_TREE: json.dumps(tree)}))


def load_state(path: Path) -> Any:
    """The inverse of `save_state`. Raises `CheckpointError` for a damaged file."""
    try:
        with TensorFile(path) as file:
            return _unflatten(json.loads(file.metadata[_TREE]), file.read())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = error.what if isinstance(error, CheckpointError) else f"the file cannot be read: {error}"
        raise CheckpointError(what[:400], where=str(path), mend="delete it to start that run again") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name beside the file, flush to the disk, rename.

    Raises:
        CheckpointError: it cannot be written; what was there is still whole.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # made plainly, so that the umask rules
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sweep_halves(folder: Path) -> None:
    """Remove the temporary files that killed writers left; nobody else may be writing there."""
    for half in folder.glob(".*." + "[0-9a-f]" * 8):
        half.unlink(missing_ok=True)


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors that share no memory, as the format wants them."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        pointer = own.untyped_storage().data_ptr()
        whole = own.untyped_storage().nbytes() == own.numel() * own.element_size()
        if pointer in seen or not whole:
            own = own.clone()
            pointer = own.untyped_storage().data_ptr()
        seen.add(pointer)
        out[name] = own
    return out


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value
        return {"t": key}
    if isinstance(value, Mapping):
        return {"d": [[_flatten(k, tensors), _flatten(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"u": [_flatten(v, tensors) for v in value]}
    if isinstance(value, list):
        return {"l": [_flatten(v, tensors) for v in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"v": value}
    raise TypeError(f"{type(value).__name__} cannot be stored without pickle")


def _unflatten(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    ((kind, value),) = tree.items()
    match kind:
        case "t":
            return tensors[value]
        case "d":
            return {_unflatten(k, tensors): _unflatten(v, tensors) for k, v in value}
        case "u":
            return tuple(_unflatten(v, tensors) for v in value)
        case "l":
            return [_unflatten(v, tensors) for v in value]
        case "v":
            return value
    raise ValueError(f"unknown kind {kind!r}")
