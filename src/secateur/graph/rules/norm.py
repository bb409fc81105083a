"""Normalisations."""

from ..flow import Flow, Role, arguments, tensors, value_of
from ..ir import Node


def batch_norm(flow: Flow, node: Node) -> None:
    """Scale, shift and running statistics go along with the channels; weights are standardised by it, too."""
    source, *others = tensors(node)
    channels = flow.dim(source, 1)
    for other in others:
        channels = flow.equate(channels, flow.dim(other, 0))
        flow.role(other, 0, Role.CARRIER)
    dims = flow.all(source)
    given = (
        node.args[5] if len(node.args) > 5 else node.kwargs.get("training", node.kwargs.get("use_input_stats", False))
    )
    over = dims[2:] if node.op == "instance_norm" else [*dims[:1], *dims[2:]]
    if given and any(labels is not None for labels in over):
        flow.notes.statistics[flow.index] = node.op
    flow.set(node.outs[0], [channels if d == 1 else labels for d, labels in enumerate(dims)])


def layer_norm(flow: Flow, node: Node) -> None:
    """Statistics over the last dimensions; scale and shift go along."""
    given = arguments(node, "input normalized_shape weight bias eps")
    source = given["input"].value
    dims = flow.all(source)
    first = len(dims) - len(given["normalized_shape"])
    for name in ("weight", "bias"):
        value = value_of(given.get(name))
        if value is not None:
            for d in range(first, len(dims)):
                dims[d] = flow.equate(dims[d], flow.dim(value, d - first))
                flow.role(value, d - first, Role.CARRIER)
    if any(labels is not None for labels in dims[first:]):
        flow.notes.statistics[flow.index] = node.op
    flow.set(node.outs[0], dims)


def group_norm(flow: Flow, node: Node) -> None:
    """Statistics over each of G groups of channels: all groups lose the same, or a whole group goes."""
    given = arguments(node, "input num_groups weight bias eps")
    source, groups = given["input"].value, given["num_groups"]
    dims, size = flow.all(source), flow.shape(source)[1]
    for name in ("weight", "bias"):
        value = value_of(given.get(name))
        if value is not None:
            dims[1] = flow.equate(dims[1], flow.dim(value, 0))
            flow.role(value, 0, Role.CARRIER)
    rows, cols = flow.algebra.split(dims[1], groups, size // groups)
    dims[1] = flow.algebra.merged([(rows, groups), (cols, size // groups)])
    if cols is not None:
        flow.notes.statistics[flow.index] = node.op
    flow.set(node.outs[0], dims)


def weight_norm(flow: Flow, node: Node) -> None:
    """`g * v / |v|`, the norm over all dimensions but one. Surgery corrects `g`, so that a cut changes no weight."""
    given = arguments(node, "v g dim")
    v, g, dim = given["v"].value, given["g"].value, given.get("dim", 0)
    dims = [flow.dim(v, d) if d < 2 else None for d in range(len(flow.shape(v)))]  # the others are places of a kernel
    for d in range(min(len(dims), 2)):
        if flow.shape(g)[d : d + 1] > (1,):
            dims[d] = flow.equate(dims[d], flow.dim(g, d))
            flow.role(g, d, Role.PRODUCER)
        flow.picked(node.outs[0], d, v, d)
        if d != dim:
            flow.role(v, d, Role.CONSUMER)  # the norm reads it
    flow.set(node.outs[0], dims)
    flow.notes.normed.append((v, g, dim))


RULES = {
    "weight_norm": weight_norm,
    "batch_norm": batch_norm,
    "instance_norm": batch_norm,
    "layer_norm": layer_norm,
    "rms_norm": layer_norm,
    "group_norm": group_norm,
}
