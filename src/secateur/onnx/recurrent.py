"""Recurrent nodes as layers of torch, which hold their gates in another order, and a tensor for each direction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from .operators.recurrent import ORDER, USUAL
from .values import array_of, tensor_of


@dataclass(frozen=True)
class Packed:
    """An initializer that holds several tensors of a recurrent layer.

    Attributes:
        source: its name in the graph.
        path: of the layer.
        kinds: which tensors lie in it one after another, for each direction: "weight_ih", or "bias_ih" and "bias_hh".
    """

    source: str
    path: str
    kinds: tuple[str, ...]

    def array(self, layer: nn.RNNBase) -> np.ndarray:
        """Its value, from the tensors of now."""
        order = ORDER[_kind(layer)]
        return np.stack(
            [
                np.concatenate([_turned(array_of(getattr(layer, name)), np.argsort(order)) for name in names])
                for names in _names(self.kinds, layer.bidirectional)
            ]
        )


class Recurrent(nn.Module):
    """One recurrent node: `[time, batch, features]` in, `[time, directions, batch, units]` out, and the last states."""

    single_operation = True

    def __init__(self, layer: nn.RNNBase, backwards: bool) -> None:
        super().__init__()
        self.layer, self.backwards = layer, backwards

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        x = x.flip(0) if self.backwards else x
        given = None if not states else states if len(states) > 1 else states[0]
        steps, last = self.layer(x, given)
        steps = steps.flip(0) if self.backwards else steps
        last = last if isinstance(last, tuple) else (last,)
        if not self.layer.bidirectional:
            return steps.unsqueeze(1), *last
        return steps.reshape(*steps.shape[:2], 2, -1).permute(0, 2, 1, 3), *last


def recurrent_of(op: str, at: Mapping[str, Any], weights: Sequence[np.ndarray]) -> Recurrent | None:
    """The layer of a node with these weights (of inputs, of states, bias if any); None where torch has none such."""
    if op not in ORDER or at.get("layout", 0) or at.get("clip") is not None or at.get("input_forget", 0):
        return None
    directions, units = len(weights[0]), weights[1].shape[-1]
    usual = [name.lower() for name in USUAL[op]] * directions
    named = [name.lower() for name in (at.get("activations") or usual)][: len(usual)]
    relu = op == "RNN" and set(named) == {"relu"}
    if (named != usual and not relu) or (op == "GRU" and not at.get("linear_before_reset", 0)):
        return None
    both = directions == 2
    kind = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}[op]
    more = {"nonlinearity": "relu"} if relu else {}
    layer: nn.RNNBase = kind(weights[0].shape[-1], units, bias=len(weights) > 2, bidirectional=both, **more)
    kinds = (("weight_ih",), ("weight_hh",), ("bias_ih", "bias_hh"))
    for array, parts in zip(weights, kinds, strict=False):
        for row, names in zip(array, _names(parts, both), strict=True):
            for piece, name in zip(np.split(row, len(names)), names, strict=True):
                held = nn.Parameter(tensor_of(_turned(piece, ORDER[op])))
                layer._parameters[name] = held
    layer._flat_weights = [getattr(layer, name) for name in layer._flat_weights_names]
    return Recurrent(layer.eval(), at.get("direction", "forward") == "reverse")


def _names(kinds: Sequence[str], both: bool) -> list[list[str]]:
    """The tensors of a layer, for each direction."""
    return [[f"{kind}_l0{end}" for kind in kinds] for end in ("", "_reverse")[: 1 + both]]


def _turned(array: np.ndarray, order: Sequence[int] | np.ndarray) -> np.ndarray:
    """With the gates, which are the rows in equal parts, in another order."""
    parts = array.reshape(len(order), -1, *array.shape[1:])
    return np.ascontiguousarray(parts[list(order)].reshape(array.shape))


def _kind(layer: nn.RNNBase) -> str:
    return {"LSTM": "LSTM", "GRU": "GRU"}.get(layer.mode, "RNN")
