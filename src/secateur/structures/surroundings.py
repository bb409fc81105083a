"""What stands around every weight of a recorded pass: its bias, the batch norm and the activation behind it."""

from collections.abc import Mapping
from math import prod

from torch import Tensor

from secateur.core.layers import Layer, Named, Norm
from secateur.graph.flow import Flow, arguments, value_of
from secateur.graph.ir import Graph, Node, refs


def surroundings_of(flow: Flow, named: Mapping[str, Tensor]) -> dict[str, Layer]:
    """By the name of its weight, every layer that runs once."""
    graph = flow.graph
    macs = {number: prod(size for size, _ in factors) for number, factors in flow.notes.products}
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for value in dict.fromkeys(refs((node.args, dict(node.kwargs)))):
            readers.setdefault(value, []).append(node)
    found: dict[str, Layer] = {}
    twice: set[str] = set()
    for number, node in enumerate(graph.nodes):
        if node.op in ("conv", "linear", "addmm"):  # the last one is how GPT-2's layers add their bias
            given = arguments(node, "bias input weight" if node.op == "addmm" else "input weight bias")
            weight, source = _named(graph, given.get("weight"), named), value_of(given.get("input"))
            if weight is None or source is None:
                continue
            if weight.name in found:
                twice.add(weight.name)
            gives, norm, activation = _behind(graph, node.outs[0], readers, named)
            found[weight.name] = Layer(
                _named(graph, given.get("bias"), named), norm, activation, source, gives, macs.get(number, 0)
            )
    return {name: layer for name, layer in found.items() if name not in twice}


def _behind(
    graph: Graph, value: int, readers: Mapping[int, list[Node]], named: Mapping[str, Tensor]
) -> tuple[int, Norm | None, str]:
    """The value after batch norm and activation, where each is the only reader; the norm; the activation."""
    norm, reader = None, _only_reader(graph, value, readers)
    if reader is not None and reader.op == "batch_norm":
        norm = _norm(graph, reader, named)
        if norm is None:
            return value, None, ""
        value = reader.outs[0]
        reader = _only_reader(graph, value, readers)
    if reader is not None and reader.pointwise and len(list(refs((reader.args, dict(reader.kwargs))))) == 1:
        return reader.outs[0], norm, reader.op.removesuffix("_")
    return value, norm, ""


def _only_reader(graph: Graph, value: int, readers: Mapping[int, list[Node]]) -> Node | None:
    """The one operation that reads a value; where the first one works in place, nobody else sees it as it was."""
    found = readers.get(value, [])
    if not found or (not found[0].op.endswith("_") and (len(found) > 1 or value in graph.outputs)):
        return None
    return found[0]


def _norm(graph: Graph, node: Node, named: Mapping[str, Tensor]) -> Norm | None:
    given = arguments(node, "input running_mean running_var weight bias training momentum eps")
    mean, variance = (_named(graph, given.get(name), named) for name in ("running_mean", "running_var"))
    if mean is None or variance is None:
        return None
    weight, bias = (_named(graph, given.get(name), named) for name in ("weight", "bias"))
    return Norm(mean, variance, weight, bias, float(given.get("eps", 1e-5)))


def _named(graph: Graph, argument: object, named: Mapping[str, Tensor]) -> Named | None:
    value = value_of(argument)
    name = None if value is None else graph.values[value].name
    return None if name is None or name not in named else Named(name, named[name])
