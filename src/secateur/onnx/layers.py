"""Nodes that are layers of torch: the whole library knows what those are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .values import tensor_of


@dataclass(frozen=True)
class Held:
    """An initializer of the graph that a module holds as a parameter or a buffer.

    Attributes:
        source: its name in the graph.
        path: of the module; leaf: the name in it.
        node, place: the number of the node, and which of its inputs it is.
        turned: whether the two dimensions are the other way round.
    """

    source: str
    path: str
    leaf: str
    node: int
    place: int
    turned: bool = False


class BatchNorm(nn.BatchNorm2d):
    """A batch norm of as many dimensions as there are."""

    single_operation = True

    def _check_input_dim(self, input: Tensor) -> None:
        return


class _Padded:
    """A convolution that pads otherwise before than after."""

    single_operation = True
    pads: tuple[int, ...]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.pads))  # type: ignore[misc]


class PaddedConv1d(_Padded, nn.Conv1d):
    """A convolution that pads otherwise before than after."""


class PaddedConv2d(_Padded, nn.Conv2d):
    """A convolution that pads otherwise before than after."""


class PaddedConv3d(_Padded, nn.Conv3d):
    """A convolution that pads otherwise before than after."""


_CONV = {1: (nn.Conv1d, PaddedConv1d), 2: (nn.Conv2d, PaddedConv2d), 3: (nn.Conv3d, PaddedConv3d)}
Weights = Mapping[int, np.ndarray]
Made = tuple[nn.Module, dict[int, tuple[str, bool]]]
"""A layer, and which input of the node each of its tensors is, and whether that is turned."""


def layer_of(op: str, attributes: Mapping[str, Any], weights: Weights, count: int) -> Made | None:
    """The layer of torch that a node is; None where it is none.

    Args:
        attributes: of the node, with defaults.
        weights: inputs that are initializers of floating point numbers, by their place.
        count: how many inputs there are.
    """
    make = _LAYERS.get(op)
    found = None if make is None else make(attributes, weights, count)
    if found is None:
        return None
    layer, names, turned = found
    for place, name in names.items():
        value = tensor_of(weights[place].T if place == turned else weights[place])
        held = layer._parameters if name in layer._parameters else layer._buffers
        held[name] = nn.Parameter(value) if name in layer._parameters else value  # type: ignore[assignment]
    return layer.eval(), {place: (name, place == turned) for place, name in names.items()}


_Found = tuple[nn.Module, dict[int, str], int | None]


def _conv(at: Mapping[str, Any], weights: Weights, count: int) -> _Found | None:
    if at.get("auto_pad", "NOTSET") != "NOTSET" or 1 not in weights or (count > 2 and 2 not in weights):
        return None
    out, inner, *kernel = weights[1].shape
    if len(kernel) not in _CONV:
        return None
    rank, groups = len(kernel), at.get("group", 1)
    pads = tuple(at.get("pads") or [0] * 2 * rank)
    same = pads[:rank] == pads[rank:]
    kinds: tuple[Any, Any] = _CONV[rank]
    settings: dict[str, Any] = {
        "stride": tuple(at.get("strides") or [1] * rank),
        "dilation": tuple(at.get("dilations") or [1] * rank),
        "padding": pads[:rank] if same else 0,
    }
    with torch.device("meta"):
        layer: Any = kinds[0 if same else 1](
            inner * groups, out, tuple(kernel), groups=groups, bias=2 in weights, **settings
        )
    if not same:
        layer.pads = tuple(n for d in reversed(range(rank)) for n in (pads[d], pads[rank + d]))
    return layer, {1: "weight", **({2: "bias"} if 2 in weights else {})}, None


def _linear(weight: np.ndarray, turned: bool, bias: bool) -> nn.Linear:
    out, inner = reversed(weight.shape) if turned else weight.shape
    with torch.device("meta"):
        return nn.Linear(inner, out, bias=bias)


def _matmul(at: Mapping[str, Any], weights: Weights, count: int) -> _Found | None:
    if set(weights) != {1} or weights[1].ndim != 2:
        return None
    return _linear(weights[1], True, False), {1: "weight"}, 1


def _gemm(at: Mapping[str, Any], weights: Weights, count: int) -> _Found | None:
    if at.get("transA", 0) or at.get("alpha", 1) != 1 or at.get("beta", 1) != 1 or 1 not in weights or 0 in weights:
        return None
    turned = not at.get("transB", 0)
    rows = weights[1].shape[1 if turned else 0]
    if count > 2 and (2 not in weights or weights[2].shape != (rows,)):
        return None
    names = {1: "weight", **({2: "bias"} if 2 in weights else {})}
    return _linear(weights[1], turned, 2 in weights), names, 1 if turned else None


def _batch_norm(at: Mapping[str, Any], weights: Weights, count: int) -> _Found | None:
    same = len({w.dtype for w in weights.values()}) == 1
    if set(weights) != {1, 2, 3, 4} or at.get("training_mode", 0) or not same:
        return None
    with torch.device("meta"):
        layer = BatchNorm(len(weights[1]), at.get("epsilon", 1e-5), 1 - at.get("momentum", 0.9))
    layer._buffers["num_batches_tracked"] = torch.tensor(0)
    return layer, {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"}, None


def _embedding(at: Mapping[str, Any], weights: Weights, count: int) -> _Found | None:
    if set(weights) != {0} or weights[0].ndim != 2 or at.get("axis", 0) != 0:
        return None
    with torch.device("meta"):
        layer = nn.Embedding(*weights[0].shape)
    return layer, {0: "weight"}, None


_LAYERS: dict[str, Callable[[Mapping[str, Any], Weights, int], _Found | None]] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "BatchNormalization": _batch_norm,
    "Gather": _embedding,
}
