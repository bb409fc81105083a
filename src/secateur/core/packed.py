"""Boolean tensors as bits: an eighth of a byte for each unit."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from .files import shape_of


def pack_bits(mask: Tensor) -> Tensor:
    """A boolean tensor as bytes of eight, in flat order, lowest bit first."""
    return torch.from_numpy(np.packbits(mask.detach().flatten().cpu().numpy(), bitorder="little"))


def unpack_bits(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `pack_bits`. Raises `ValueError` where the bytes are not as many as the shape needs."""
    count = math.prod(shape_of(shape))
    if packed.dtype != torch.uint8 or packed.numel() != -(-count // 8):
        raise ValueError(f"{packed.numel()} values of {packed.dtype} are no bits of a mask of shape {shape}")
    bits = np.unpackbits(packed.flatten().cpu().numpy(), count=count, bitorder="little").view(np.bool_)
    return torch.from_numpy(bits).reshape(shape).to(packed.device)


class PackedMasks(Mapping[str, Tensor]):
    """Masks by name, held as bits; each is a tensor of its own whenever it is asked for."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Tensor, torch.Size]] = {}

    def put(self, name: str, mask: Bool[Tensor, "..."]) -> None:
        """Hold a mask, in place of one that is known."""
        self._held[name] = pack_bits(mask), mask.shape

    def __getitem__(self, name: str) -> Tensor:
        packed, shape = self._held[name]
        return unpack_bits(packed, tuple(shape))

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)
