"""scikit-learn's handwritten digits: 1,797 real 8x8 images that come with the library, so no download is needed."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from secateur.core import Task, Training

from .models import DigitsCNN, digits_mlp


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images and labels in memory; a whole batch is fetched by one index operation."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self.images, self.targets = images, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.targets[index]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.images[indices], self.targets[indices], strict=True))


@cache
def _arrays() -> tuple[Tensor, Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    images = torch.from_numpy(np.asarray(data.images, dtype=np.float32))[:, None] / 8 - 1
    targets = torch.from_numpy(np.asarray(data.target, dtype=np.int64))
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    return images[order], targets[order], order


def digits() -> Task:
    """Digits as `[1, 8, 8]` images in [-1, 1]: 1,300 to train on, 497 to test on; the split never changes."""
    images, targets, _ = _arrays()
    return Task(
        train=Images(images[:1300], targets[:1300]),
        test=Images(images[1300:], targets[1300:]),
        name="digits",
        training=Training(epochs=15, optimizer="adam", lr=2e-3),
        model=DigitsCNN,
    )


def digits_flat() -> Task:
    """The same data for the MLP 64-300-100-10, trained as the lottery-ticket papers train it."""
    images, targets, _ = _arrays()
    return Task(
        train=Images(images[:1300], targets[:1300]),
        test=Images(images[1300:], targets[1300:]),
        name="digits-flat",
        training=Training(epochs=15, optimizer="adam", lr=1.2e-3, lr_schedule="constant"),
        model=digits_mlp,
    )
