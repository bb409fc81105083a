"""Noise in the place of data: for statistics of a model whose data nobody has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from secateur.core import Calibration, RecipeError, batch_length


@dataclass(frozen=True)
class Noise(Calibration):
    """Inputs like an example: real numbers of mean 0 and deviation 1 where it has some, uniform ids for whole ones.

    A tensor of whole numbers that are all alike (a mask of ones) stays as it is, like everything that is no tensor.

    Attributes:
        samples: how many, at least.
        batch: how many at once.
        distribution: of the real numbers.
    """

    samples: int = 256
    batch: int = 64
    distribution: Literal["normal", "uniform"] = "normal"

    def __post_init__(self) -> None:
        if self.samples < 1 or self.batch < 1:
            raise RecipeError("there is no sample", where="Noise(samples, batch)", mend="1 or more; 256 is usual")

    def batches(self, model: nn.Module, example: Any, seed: int) -> Iterator[Any]:
        rng = torch.Generator().manual_seed(seed)
        words = next((m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)), None)
        length = batch_length(example)
        for start in range(0, self.samples, self.batch):
            yield self._drawn(example, length, min(self.batch, self.samples - start), words, rng)

    def _drawn(self, example: Any, length: int, count: int, words: int | None, rng: Generator) -> Any:
        """The example with `count` new samples in the place of its `length`."""
        if isinstance(example, Mapping):
            return {key: self._drawn(item, length, count, words, rng) for key, item in example.items()}
        if isinstance(example, tuple | list):
            return type(example)(self._drawn(item, length, count, words, rng) for item in example)
        if not isinstance(example, Tensor) or not example.numel() or not example.dim() or len(example) != length:
            return example
        shape = (count, *example.shape[1:])
        if example.is_floating_point():
            if self.distribution == "uniform":
                return (torch.rand(shape, generator=rng) * 2 - 1).mul(3**0.5).to(example)
            return torch.randn(shape, generator=rng).to(example)
        low, high = int(example.amin()), int(example.amax())
        if low == high or example.dtype == torch.bool:
            return example[:1].expand(shape)
        most = words if words is not None and example.dim() > 1 else high + 1
        return torch.randint(most, shape, generator=rng).to(example)
