"""LSTM, GRU and plain recurrent layers: one hidden size for all layers and directions of a module."""

from typing import Any

from ..flow import Flow, Role, value_of
from ..ir import Node
from ..labels import Dim


def recurrent(flow: Flow, node: Node) -> None:
    """Unit h owns row h of every gate, column h of the recurrent weight, and its column of whoever reads it."""
    at = next(i for i, argument in enumerate(node.args) if isinstance(argument, list))
    source = node.args[0].value
    weights = [w.value for w in node.args[at]]
    biased, layers = node.args[at + 1], node.args[at + 2]
    both = node.args[at + 5]
    states = [s.value for s in _flat(node.args[at - 1])]
    gates = {"lstm": 4, "gru": 3}.get(node.op, 1)
    directions = 2 if both else 1
    each = len(weights) // (layers * directions)
    projected = each - (4 if biased else 2) == 1
    units = flow.shape(weights[0])[0] // gates
    hidden: Dim = None
    first = True
    for w in range(0, len(weights), each):
        for place, weight in enumerate(weights[w : w + (4 if biased else 2)]):
            rows = _gated(flow, weight, gates, units)
            hidden = rows if first else flow.equate(hidden, rows)
            first = False
            flow.role(weight, 0, Role.PRODUCER)
            if place < 2:
                flow.role(weight, 1, Role.CONSUMER)
    given: Dim = hidden
    if projected:
        given = flow.dim(weights[each - 1], 0)
        for w in range(each - 1, len(weights), each):
            given = flow.equate(given, flow.dim(weights[w], 0))
            flow.equate(hidden, flow.dim(weights[w], 1))
            flow.consume(weights[w], 1)
            flow.role(weights[w], 0, Role.PRODUCER)
            flow.role(weights[w], 1, Role.CONSUMER)
    width = flow.shape(node.outs[1])[-1]
    outer = _side_by_side(flow, given, width, directions)
    for layer in range(layers):
        for d in range(directions):
            inputs, recurrent_weight = weights[(layer * directions + d) * each : (layer * directions + d) * each + 2]
            if layer == 0:
                flow.contracted(source, -1, inputs, 1)
            else:
                flow.equate(outer, flow.dim(inputs, 1))
                flow.consume(inputs, 1)
            flow.equate(given, flow.dim(recurrent_weight, 1))
            flow.consume(recurrent_weight, 1)
    for state, labels in zip(states, (given, hidden), strict=False):
        flow.equate(flow.dim(state, -1), labels, "a state is given from outside")
    dims = flow.all(source)
    flow.set(node.outs[0], [*dims[:-1], outer])
    for out, labels in zip(node.outs[1:], (given, hidden), strict=False):
        flow.set(out, [*[None] * (len(flow.shape(out)) - 1), labels])
    steps = 1
    for size in flow.shape(source)[:-1]:
        steps *= size
    for w in range(0, len(weights), each):
        for weight in weights[w : w + 2]:
            flow.product((steps * gates, None), (units, hidden), (flow.shape(weight)[1], flow.dim(weight, 1)))
        if projected:
            flow.product((steps, None), (units, hidden), (width // directions, given))


def _flat(tree: Any) -> list[Any]:
    return list(tree) if isinstance(tree, tuple | list) else [tree] if value_of(tree) is not None else []


def _gated(flow: Flow, weight: int, gates: int, units: int) -> Dim:
    rows, cols = flow.algebra.split(flow.dim(weight, 0), gates, units)
    flow.freeze([rows], "the gates of a recurrent layer")
    return cols


def _side_by_side(flow: Flow, labels: Dim, width: int, times: int) -> Dim:
    """The outputs of both directions; units of both go together."""
    return flow.algebra.merged([(None, times), (labels, width)]) if times > 1 else labels


RULES = {"lstm": recurrent, "gru": recurrent, "rnn": recurrent}
