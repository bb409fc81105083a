"""Overlap of masks as they lie on disk, one bit per weight: counted in bytes, never unpacked to booleans."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .overlap import Overlap

Bytes = NDArray[np.uint8]
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Packed:
    """The masks of one model, laid end to end.

    Attributes:
        bits: eight weights to a byte, lowest bit first; every group begins a byte, its last one is filled with zeros.
        kept, sizes: weights that stay, and weights there are, by group.
    """

    bits: Bytes
    kept: NDArray[np.int64]
    sizes: NDArray[np.int64]


def pack(masks: Mapping[str, NDArray[np.generic]], sizes: Mapping[str, int]) -> Packed:
    """The masks of the groups in `sizes`; a group without a mask is dense.

    Raises:
        ValueError: a mask has another number of bytes than its group needs.
    """
    parts, kept = [], []
    for name, size in sizes.items():
        part = _whole(size) if name not in masks else _trimmed(masks[name], size, name)
        parts.append(part)
        kept.append(_ones(part))
    bits = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
    return Packed(bits, np.array(kept, np.int64), np.array([*sizes.values()], np.int64))


def packed_iou(first: Packed, second: Packed) -> Overlap:
    """Intersection over union of what two models keep, pooled over all groups, beside that of chance.

    Chance keeps a b / n of a group of n weights in both, where each side keeps a and b of them.
    """
    joint, a, b = _ones(first.bits & second.bits), int(first.kept.sum()), int(second.kept.sum())
    random = float((first.kept * second.kept / np.maximum(first.sizes, 1)).sum())
    return Overlap(_share(joint, a + b - joint), _share(random, a + b - random))


def _trimmed(mask: NDArray[np.generic], size: int, name: str) -> Bytes:
    """With zeros behind the last weight, whatever a foreign writer put there."""
    if mask.dtype != np.uint8 or mask.shape != (-(-size // 8),):
        raise ValueError(f"the mask of {name!r} is {mask.size} values of {mask.dtype}, for {size} weights")
    whole = mask.astype(np.uint8, copy=False)
    if size % 8 == 0 or whole[-1] >> (size % 8) == 0:
        return whole
    return np.concatenate([whole[:-1], whole[-1:] & ((1 << size % 8) - 1)]).astype(np.uint8)


def _whole(size: int) -> Bytes:
    return np.packbits(np.ones(size, bool), bitorder="little")


def _ones(packed: Bytes) -> int:
    count = getattr(np, "bitwise_count", None)  # of numpy 2; in words of 64 bits where the length allows
    if count is None:
        return int(_ONES[packed].sum(dtype=np.int64))
    whole = len(packed) // 8 * 8
    words = np.frombuffer(packed[:whole].tobytes(), np.uint64)
    return int(count(words).sum(dtype=np.int64)) + int(_ONES[packed[whole:]].sum(dtype=np.int64))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
