"""LSTM, GRU and plain recurrent layers, whose gates torch keeps in another order."""

from typing import Any

import torch
from torch import Tensor

from secateur.core import SubjectError

from .table import operator

ORDER = {"LSTM": [0, 2, 3, 1], "GRU": [1, 0, 2], "RNN": [0]}
"""Where torch's gates stand among those of ONNX: i o f c against i f c o, z r h against r z h."""
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@operator("LSTM", "GRU", "RNN", since=7)
def recurrent(
    at: Any,
    x: Tensor,
    weight: Tensor,
    inner: Tensor,
    bias: Tensor | None = None,
    lengths: Any = None,
    hidden: Tensor | None = None,
    cell: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """One layer in one direction or both; `[time, batch, features]`, or batch first with layout 1."""
    directions, units = weight.shape[0], inner.shape[-1]
    relu = _check(at, directions, lengths, peepholes)
    source = x.transpose(0, 1) if at.get("layout", 0) else x
    backwards = at.get("direction", "forward") == "reverse"
    source = source.flip(0) if backwards else source
    gates = ORDER[at.op]
    loose = at.op == "GRU" and not at.get("linear_before_reset", 0)
    given: list[Tensor] = []
    for d in range(directions):
        given += [_ordered(weight[d], gates), _ordered(inner[d], gates)]
        if bias is not None:
            given += [_ordered(part, gates) for part in bias[d].reshape(2, -1).unbind(0)]
    states = [s for s in (hidden, cell) if s is not None]
    states = [s.transpose(0, 1) for s in states] if at.get("layout", 0) else states
    while len(states) < (2 if at.op == "LSTM" else 1):
        states.append(source.new_zeros(directions, source.shape[1], units))
    if loose:
        steps, *last = _gru(source, given, states[0], bias is not None)
    elif at.op == "LSTM":
        steps, *last = torch.lstm(source, tuple(states), given, bias is not None, 1, 0.0, False, directions == 2, False)
    else:
        run = torch.gru if at.op == "GRU" else torch.rnn_relu if relu else torch.rnn_tanh
        steps, *last = run(source, states[0], given, bias is not None, 1, 0.0, False, directions == 2, False)
    steps = steps.flip(0) if backwards else steps
    if at.get("layout", 0):
        steps = steps.transpose(0, 1)
        steps = steps.unsqueeze(2) if directions == 1 else steps.reshape(*steps.shape[:2], directions, -1)
        return steps, *(s.transpose(0, 1) for s in last)
    if directions == 1:
        return steps.unsqueeze(1), *last
    return steps.reshape(*steps.shape[:2], directions, -1).permute(0, 2, 1, 3), *last


def _check(at: Any, directions: int, lengths: Any, peepholes: Tensor | None) -> bool:
    """Whether a plain layer uses relu; what torch's layers do not do is refused."""
    usual = USUAL[at.op] * directions
    named = [n.lower() for n in (at.get("activations") or usual)[: len(usual)]]
    relu = at.op == "RNN" and set(named) == {"relu"}
    odd = [
        what
        for what, there in {
            "sequence lengths": lengths is not None,
            "peepholes": peepholes is not None,
            "a clip": at.get("clip") is not None,
            "coupled gates": bool(at.get("input_forget", 0)),
            f"activations {', '.join(named)}": not relu and named != [n.lower() for n in usual],
        }.items()
        if there
    ]
    if odd:
        raise SubjectError(
            f"{at.op} with {odd[0]} is not supported", where=f"node {at.title}", mend="export it as plain operators"
        )
    return relu


def _ordered(weight: Tensor, gates: list[int]) -> Tensor:
    """The gates of a weight or bias in torch's order."""
    if len(gates) == 1:
        return weight
    parts = weight.reshape(len(gates), -1, *weight.shape[1:])
    order = torch.tensor(gates, device=weight.device)
    return parts.index_select(0, order).reshape(weight.shape)


def _gru(source: Tensor, given: list[Tensor], state: Tensor, biased: bool) -> tuple[Tensor, Tensor]:
    """Step by step, the reset before the product: torch's own layer has it behind."""
    each = 4 if biased else 2
    found, ends = [], []
    for d in range(len(given) // each):
        w, r, *biases = given[d * each : (d + 1) * each]
        inputs = torch.matmul(source, w.t()) + (biases[0] if biases else 0)
        inner = biases[1] if biases else None
        w_r, w_z, w_n = r.chunk(3)
        b_r, b_z, b_n = inner.chunk(3) if inner is not None else (0.0, 0.0, 0.0)
        h, steps = state[d], []
        times = range(len(source)) if d == 0 else reversed(range(len(source)))
        for t in times:
            x_r, x_z, x_n = inputs[t].chunk(3, -1)
            reset = torch.sigmoid(x_r + torch.matmul(h, w_r.t()) + b_r)
            update = torch.sigmoid(x_z + torch.matmul(h, w_z.t()) + b_z)
            new = torch.tanh(x_n + torch.matmul(reset * h, w_n.t()) + b_n)
            h = (1 - update) * new + update * h
            steps.append(h)
        found.append(torch.stack(steps if d == 0 else steps[::-1]))
        ends.append(h)
    return torch.cat(found, -1), torch.stack(ends)
