"""Language modelling: windows of token ids, next-token loss, perplexity."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from secateur.core import Task, Training


class Windows(Dataset[Tensor]):
    """Non-overlapping windows of `length` tokens; the remainder is dropped."""

    def __init__(self, ids: Tensor, length: int) -> None:
        self.ids = ids[: len(ids) // length * length].view(-1, length)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Tensor:
        return self.ids[index]

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        return list(self.ids[indices])


def random_windows(ids: Tensor, length: int, count: int, seed: int) -> Windows:
    """`count` windows of `length` tokens from random places, as calibration draws them."""
    rng = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(ids) - length + 1, (count,), generator=rng)
    return Windows(torch.cat([ids[s : s + length] for s in starts.tolist()]), length)


def _logits(outputs: Any) -> Tensor:
    logits = getattr(outputs, "logits", outputs)
    assert isinstance(logits, Tensor)
    return logits


def next_token_loss(outputs: Any, ids: Tensor) -> Tensor:
    """Mean cross-entropy of each token given those before it; T - 1 targets for a window of T."""
    logits = _logits(outputs)[:, :-1].flatten(0, 1)
    return nn.functional.cross_entropy(logits.float(), ids[:, 1:].flatten())


class Perplexity:
    """exp of the mean next-token cross-entropy over all windows, each seen alone."""

    def __init__(self) -> None:
        self.reset()

    def update(self, outputs: Tensor, target: Tensor) -> None:
        """Take in one batch: logits `[batch, time, vocabulary]`, ids `[batch, time]`."""
        predicted = target[:, 1:].numel()
        self._sum += float(next_token_loss(outputs, target)) * predicted
        self._tokens += predicted

    def compute(self) -> float:
        """The perplexity so far; infinite where the loss is too large for a float."""
        mean = self._sum / max(self._tokens, 1)
        return math.exp(mean) if mean < 700 else math.inf

    def reset(self) -> None:
        """Forget all batches."""
        self._sum, self._tokens = 0.0, 0


def call_on_ids(model: nn.Module, batch: Any) -> Any:
    """`model(ids)`; a transformers model takes them by name."""
    return model(input_ids=batch, use_cache=False) if hasattr(model, "config") else model(batch)


def language_task(
    train: Windows, test: Windows, name: str, training: Training = Training(), batch_size: int = 16
) -> Task:
    """Next-token prediction on windows of ids, measured by perplexity."""
    return Task(
        train=train,
        test=test,
        name=name,
        call=call_on_ids,
        loss=next_token_loss,
        target=lambda batch: batch,
        metrics={"perplexity": Perplexity()},
        lower_is_better=frozenset({"loss", "perplexity"}),
        training=training,
        batch_size=batch_size,
    )
