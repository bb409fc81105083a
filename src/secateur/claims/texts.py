"""Language models and texts that several claims share. Calibration is drawn by the seed; the test text never is."""

from functools import cache
from typing import Any

from torch import Tensor, nn

from secateur.core import Task, Training
from secateur.tasks.language import Windows, language_task, random_windows

from . import data

WINDOW = 256
"""The length that llama7m was trained on."""


def trained_llama() -> nn.Module:
    """A Llama of 6.9 M parameters: width 256, 8 blocks, 8 heads and 4 key-value heads, MLP 688, tied embeddings."""
    return data.causal_lm("llama7m")[0]


@cache
def _ids(name: str) -> Tensor:
    tokenizer: Any = data.causal_lm("llama7m")[1]
    ids = tokenizer(data.text(name), add_special_tokens=False, return_tensors="pt").input_ids[0]
    assert isinstance(ids, Tensor)
    return ids


def text_task(
    seed: int,
    calibration: int = 64,
    windows: int = 128,
    train: str = "wikitext2_valid",
    test: str = "wikitext2_test",
    length: int = WINDOW,
    training: Training = Training(),
    batch_size: int = 16,
) -> Task:
    """Perplexity on the first `windows` windows of one text, calibrated on windows of another drawn by the seed."""
    few = random_windows(_ids(train), length, calibration, seed)
    many = Windows(_ids(test)[: windows * length], length)
    name = f"{test}, {windows} windows of {length} tokens; {calibration} of {train}"
    return language_task(few, many, name, training, batch_size)
