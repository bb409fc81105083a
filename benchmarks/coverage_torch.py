"""Modules of torch.nn: recurrent ones, attention, and the kinds of convolutions."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from structured_cases import Case


class Read(nn.Module):
    """A recurrent module between two linear layers."""

    def __init__(self, kind: Callable[..., nn.Module], out: int, **sizes: Any) -> None:
        super().__init__()
        self.stem = nn.Linear(12, 24)
        self.rnn = kind(24, 32, batch_first=True, **sizes)
        self.head = nn.Linear(out, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.stem(x))[0])


class Attend(nn.Module):
    """Attention over itself, between two linear layers."""

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(12, 32), nn.Linear(32, 5)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True, **sizes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.attention(x, x, x, need_weights=False)[0])


class Cross(nn.Module):
    """Attention over another sequence of other widths."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.other, self.head = nn.Linear(12, 32), nn.Linear(12, 24), nn.Linear(32, 5)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True, kdim=24, vdim=24)

    def forward(self, x: Tensor) -> Tensor:
        other = self.other(x).relu()
        return self.head(self.attention(self.stem(x), other, other, need_weights=False)[0])


class Translate(nn.Module):
    """Encoder and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.other, self.head = nn.Linear(12, 32), nn.Linear(12, 32), nn.Linear(32, 5)
        self.transformer = nn.Transformer(32, 4, 2, 2, 48, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.transformer(self.stem(source), self.other(target)))


def _encoder(**how: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 48, batch_first=True, **how)
    return nn.Sequential(
        nn.Linear(12, 32), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 5)
    )


def _convolved(middle: Callable[[], nn.Module], width: int, made: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), middle(), nn.BatchNorm2d(made), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(made, 5),
    )  # fmt: skip


def torch_cases() -> Iterator[Case]:
    """Each within a small network, so that its sizes can change."""
    sequences = lambda: (torch.randn(2, 7, 12),)  # noqa: E731
    both = lambda: {"source": torch.randn(2, 7, 12), "target": torch.randn(2, 5, 12)}  # noqa: E731
    images = lambda: (torch.randn(2, 3, 16, 16),)  # noqa: E731
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        name = kind.__name__.lower()
        yield Case("torch", name, lambda k=kind: Read(k, 32), sequences)
        yield Case("torch", f"{name}_stacked", lambda k=kind: Read(k, 32, num_layers=3), sequences)
        yield Case("torch", f"{name}_bidirectional", lambda k=kind: Read(k, 64, bidirectional=True), sequences)
        deep = {"num_layers": 2, "bidirectional": True}
        yield Case("torch", f"{name}_stacked_bidirectional", lambda k=kind, d=deep: Read(k, 64, **d), sequences)
    yield Case("torch", "lstm_proj_size", lambda: Read(nn.LSTM, 20, proj_size=20), sequences)
    yield Case("torch", "lstm_proj_size_stacked", lambda: Read(nn.LSTM, 20, proj_size=20, num_layers=2), sequences)
    projected = {"proj_size": 20, "num_layers": 2, "bidirectional": True}
    yield Case("torch", "lstm_proj_size_bidirectional", lambda: Read(nn.LSTM, 40, **projected), sequences)
    yield Case("torch", "attention", Attend, sequences)
    yield Case("torch", "attention_bias_kv", lambda: Attend(add_bias_kv=True), sequences)
    yield Case("torch", "attention_cross", Cross, sequences)
    yield Case("torch", "transformer", Translate, both)
    yield Case("torch", "transformer_encoder", _encoder, sequences)
    yield Case(
        "torch", "transformer_encoder_norm_first", lambda: _encoder(norm_first=True, activation="gelu"), sequences
    )
    convolutions = {
        "conv": (lambda: nn.Conv2d(24, 32, 3), 24, 32),
        "conv_transposed": (lambda: nn.ConvTranspose2d(24, 32, 2, stride=2), 24, 32),
        "conv_transposed_grouped": (lambda: nn.ConvTranspose2d(24, 32, 2, stride=2, groups=4), 24, 32),
        "conv_grouped": (lambda: nn.Conv2d(24, 32, 3, groups=4), 24, 32),
        "conv_depthwise": (lambda: nn.Conv2d(24, 24, 3, groups=24), 24, 24),
        "conv_depthwise_multiplied": (lambda: nn.Conv2d(24, 48, 3, groups=24), 24, 48),
    }
    for name, (middle, width, made) in convolutions.items():
        yield Case("torch", name, lambda m=middle, w=width, n=made: _convolved(m, w, n), images)
