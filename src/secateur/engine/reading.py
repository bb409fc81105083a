"""Reads a safetensors file once, hashed on the way; tensors are views of one block of memory.

The block is the mapped file, as `safetensors` has it: nothing is copied, processes share it, and tensors that are
written to get pages of their own. But whoever writes into the file later, instead of replacing it, changes the tensors
(or ends the process, if it is cut short). Or the block is memory of our own, where the bytes that were verified are
those that are used; pages of 2 MiB, where the system has them, make that copy cheap.
"""

import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from secateur.core.files import once, open_plain, shape_of, unreadable

_TYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
_MOST_HEADER, _MOST_SIZE = 16 << 20, 1 << 62
_CHUNK, _HUGE_PAGE = 1 << 18, 2 << 20


@runtime_checkable
class Hasher(Protocol):
    """What `hashlib` and `xxhash` give."""

    def update(self, data: memoryview, /) -> object: ...


class Layout(NamedTuple):
    """Type, shape and place of one tensor in the file's data."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class TensorFile:
    """An open file whose header is read and checked, and whose data is not read yet.

    Args:
        path: a plain file; a link, a device or a pipe is refused, unread.

    Raises:
        CheckpointError: it is missing, cut short, or no safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = open_plain(path)
        try:
            self.size = os.fstat(self._handle).st_size
            self._head = self._read_head()
            self.layouts, self.metadata = _parse(self._head[8:], self.size - len(self._head))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self.close()
            raise unreadable(path, error) from error

    def close(self) -> None:
        """Close the file; tensors that were read stay."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, hasher: Hasher | None = None) -> dict[str, Tensor]:
        """All tensors: writable, in one private block of memory. The hasher sees every byte of the file once."""
        size = self.size - len(self._head)
        block = memoryview(_block(size))[:size]
        try:
            if hasher is not None:
                hasher.update(memoryview(self._head))
            self._read_into(block, hasher)
            return {name: _view(block, layout) for name, layout in self.layouts.items()}
        except (OSError, ValueError, RuntimeError) as error:
            raise unreadable(self.path, error) from error

    def map(self, hasher: Hasher | None = None) -> dict[str, Tensor]:
        """As `read`, but views of the mapped file, which must be replaced and not rewritten while they are in use."""
        if not hasattr(mmap, "MAP_PRIVATE") or len(self._head) % 8 or self.size == len(self._head):
            return self.read(hasher)
        try:
            mapped = mmap.mmap(self._handle, self.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            block = memoryview(mapped)
            if hasher is not None:
                hasher.update(block)
            return {name: _view(block, layout, len(self._head)) for name, layout in self.layouts.items()}
        except (OSError, ValueError, RuntimeError) as error:
            raise unreadable(self.path, error) from error

    def _read_into(self, block: memoryview, hasher: Hasher | None) -> None:
        with os.fdopen(os.dup(self._handle), "rb", buffering=0) as file:
            file.seek(len(self._head))
            at = 0
            while at < len(block):
                count = file.readinto(block[at : at + _CHUNK])  # in pieces, so that they are hashed while in the cache
                if not count:
                    raise ValueError("it was cut short while it was read")
                if hasher is not None:
                    hasher.update(block[at : at + count])
                at += count

    def _read_head(self) -> bytes:
        first = os.pread(self._handle, 8, 0)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > min(self.size - 8, _MOST_HEADER):
            raise ValueError("it is cut short, or no safetensors file")
        head = first + os.pread(self._handle, length, 8)
        if len(head) != 8 + length:
            raise ValueError("it was cut short while it was read")
        return head


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, in memory of our own; errors as of `TensorFile`."""
    with TensorFile(path) as file:
        return file.read()


def _parse(head: bytes, size: int) -> tuple[dict[str, Layout], dict[str, str]]:
    header = json.loads(head, object_pairs_hook=once)
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is no text")
    layouts = {name: _layout(name, entry) for name, entry in header.items()}
    at = 0
    for layout in sorted(layouts.values(), key=lambda found: (found.begin, found.end)):
        if layout.begin != at:
            raise ValueError("its tensors overlap or leave gaps")
        at = layout.end
    if at != size:
        raise ValueError(f"its tensors take {at} bytes and it has {size}")
    return layouts, metadata


def _layout(name: str, entry: Mapping[str, Any]) -> Layout:
    dtype, shape, (begin, end) = _TYPES[entry["dtype"]], shape_of(entry["shape"]), entry["data_offsets"]
    if not all(type(n) is int and 0 <= n < _MOST_SIZE for n in (begin, end)):
        raise ValueError(f"tensor {name[:80]!r} has an impossible place")
    if end - begin != math.prod(shape) * dtype.itemsize or begin % dtype.itemsize:
        raise ValueError(f"tensor {name[:80]!r} does not fit its place")
    return Layout(dtype, shape, begin, end)


def _block(size: int) -> Any:
    """Memory that nobody else sees; it goes with the last tensor in it."""
    if size < _HUGE_PAGE or not hasattr(mmap, "MAP_PRIVATE"):
        return bytearray(max(1, size))
    whole = -(-size // _HUGE_PAGE) * _HUGE_PAGE
    block = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            block.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            return block  # a kernel without huge pages has small ones
    return block


def _view(block: memoryview, layout: Layout, begin: int = 0) -> Tensor:
    numel = layout.numel
    if not numel:
        return torch.empty(layout.shape, dtype=layout.dtype)
    flat = torch.frombuffer(block, dtype=layout.dtype, count=numel, offset=begin + layout.begin)
    return flat if len(layout.shape) == 1 else flat.view(layout.shape)
