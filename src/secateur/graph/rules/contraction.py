"""Operations that make new positions out of others: linear layers, convolutions, matrix products, embeddings."""

from math import prod
from typing import Any

from ..flow import Flow, Role, arguments, tensors, value_of
from ..ir import Node
from ..labels import Dim


def linear(flow: Flow, node: Node) -> None:
    """`[..., in] x [out, in] -> [..., out]`."""
    given = arguments(node, "input weight bias")
    source, weight, bias = given["input"].value, given["weight"].value, value_of(given.get("bias"))
    flow.contracted(source, -1, weight, -1)
    flow.role(weight, 1, Role.CONSUMER)
    made = _made(flow, weight, 0, bias) if len(flow.shape(weight)) > 1 else None
    dims, shape = flow.all(source), flow.shape(source)
    flow.set(node.outs[0], [*dims[:-1], *([made] if len(flow.shape(weight)) > 1 else [])])
    free = list(zip(shape[:-1], dims[:-1], strict=True))
    flow.product(*free, (shape[-1], flow.dim(source, -1)), (flow.shape(weight)[0], made))


def _made(flow: Flow, weight: int, dim: int, bias: int | None) -> Dim:
    """The positions that a weight makes, with the bias that goes along."""
    flow.role(weight, dim, Role.PRODUCER)
    made = flow.dim(weight, dim)
    if bias is not None:
        made = flow.equate(made, flow.dim(bias, 0))
        flow.role(bias, 0, Role.PRODUCER)
    return made


def conv(flow: Flow, node: Node) -> None:
    """`[N, in, ...] x [out, in / groups, ...]`; groups lose the same, or a whole group goes."""
    given = arguments(node, "input weight bias stride padding dilation groups")
    source, weight, bias = given["input"].value, given["weight"].value, value_of(given.get("bias"))
    groups = given.get("groups", 1)
    shape = flow.shape(weight)
    at = len(flow.shape(source)) - len(shape) + 1
    _keep_kernel(flow, weight)
    _grouped(flow, (source, at), (weight, 0), (weight, 1), groups, shape[0] // groups)
    made = _made(flow, weight, 0, bias)
    if groups == shape[0]:
        flow.notes.roles.get((weight, 0), set()).discard(Role.PRODUCER)
        flow.role(weight, 0, Role.CARRIER)
    dims = flow.all(source)
    out = node.outs[0]
    space = [_along(flow, given, dims[at + 1 + d], shape[2 + d], d) for d in range(len(shape) - 2)]
    flow.set(out, [*dims[:at], made, *space])
    places = list(zip(flow.shape(out)[at + 1 :], space, strict=True))
    fixed = prod(flow.shape(out)[:at]) * prod(shape[2:])
    flow.product((fixed, None), *places, (shape[0], made), (shape[1], flow.dim(weight, 1)))


def _along(flow: Flow, given: dict[str, Any], labels: Dim, kernel: int, d: int) -> Dim:
    """A dimension that a convolution runs along: a kernel of one place leaves it as it is."""
    if labels is None:
        return None
    steps = [given.get("stride", 1), given.get("padding", 0)]
    stride, padding = (s[d] if isinstance(s, tuple | list) and len(s) > d else s for s in steps)
    if kernel == 1 and stride in (1, (1,), [1]) and padding in (0, (0,), [0]):
        return labels
    flow.freeze([labels], "a convolution runs along it")
    return None


def conv_transpose(flow: Flow, node: Node) -> None:
    """`[N, in, ...] x [in, out / groups, ...]`."""
    given = arguments(node, "input weight bias stride padding output_padding groups dilation")
    source, weight, bias = given["input"].value, given["weight"].value, value_of(given.get("bias"))
    groups = given.get("groups", 1)
    shape = flow.shape(weight)
    at = len(flow.shape(source)) - len(shape) + 1
    _keep_kernel(flow, weight)
    dims = flow.all(source)
    made: Dim
    if groups == 1:
        flow.contracted(source, at, weight, 0)
        flow.role(weight, 0, Role.CONSUMER)
        made = _made(flow, weight, 1, bias)
    else:
        inner = flow.equate(dims[at], flow.dim(weight, 0))
        rows, cols = flow.algebra.split(inner, groups, shape[0] // groups)
        flow.role(weight, 0, Role.CONSUMER if shape[0] > groups else Role.CARRIER)
        flow.role(weight, 1, Role.PRODUCER)
        if cols is not None:
            flow.consume(source, at)
        made = flow.algebra.merged([(rows, groups), (flow.dim(weight, 1), shape[1])])
        if bias is not None:
            made = flow.equate(made, flow.dim(bias, 0))
            flow.role(bias, 0, Role.PRODUCER)
    out = node.outs[0]
    flow.set(out, [*dims[:at], made, *[None] * (len(shape) - 2)])
    space = prod(flow.shape(source)[at + 1 :]) * prod(flow.shape(source)[:at])
    flow.product((space * prod(shape[2:]), None), (shape[0], flow.dim(weight, 0)), (shape[1], flow.dim(weight, 1)))


def _keep_kernel(flow: Flow, weight: int) -> None:
    """Places of a kernel stay, also where it is computed from others."""
    if flow.graph.values[weight].kind != "parameter":
        flow.freeze(flow.all(weight)[2:], "places of a kernel")


def _grouped(
    flow: Flow, source: tuple[int, int], made: tuple[int, int], taken: tuple[int, int], groups: int, out: int
) -> None:
    """Positions of the input against those of a weight that sees only its own group of them."""
    if groups == 1:
        flow.contracted(*source, *taken)
        flow.role(*taken, Role.CONSUMER)
        return
    width = flow.shape(taken[0])[taken[1]]
    rows, cols = flow.algebra.split(flow.dim(*source), groups, width)
    made_rows, _ = flow.algebra.split(flow.dim(*made), groups, out)
    together = flow.equate(rows, made_rows)
    if together is not None and width > 1:
        flow.notes.groups.append(together)
    flow.equate(cols, flow.dim(*taken))
    if width > 1:
        flow.consume(*source)
        flow.role(*taken, Role.CONSUMER)


def matmul(flow: Flow, node: Node) -> None:
    """`[..., m, k] x [..., k, n]`, an optional first argument added to it."""
    added, (a, b) = _added(node), [t.value for t in node.args if value_of(t) is not None][-2:]
    flow.contracted(a, -1, b, -2 if len(flow.shape(b)) > 1 else 0)
    flow.role(a, len(flow.shape(a)) - 1, Role.CONSUMER)
    flow.role(b, max(len(flow.shape(b)) - 2, 0), Role.CONSUMER)
    left, right = flow.all(a), flow.all(b)
    lead = _broadcast(flow, a, b)
    if lead:
        flow.notes.heads += [labels for labels in lead if labels is not None]
    rows = left[-2:-1] if len(left) > 1 else []
    cols = right[-1:] if len(right) > 1 else []
    if rows:
        flow.role(a, len(left) - 2, Role.PRODUCER)
    if cols:
        flow.role(b, len(right) - 1, Role.PRODUCER)
    dims = [*lead, *rows, *cols]
    if added is not None:
        shape = flow.shape(added)
        for d in range(-len(shape), 0):
            if shape[d] > 1 and d >= -len(dims):
                dims[d] = flow.equate(dims[d], flow.dim(added, d))
                flow.role(added, d + len(shape), Role.PRODUCER)
    flow.set(node.outs[0], dims)
    out = flow.shape(node.outs[0])
    flow.product(*zip(out, dims, strict=True), (flow.shape(a)[-1], flow.dim(a, -1)))


def _broadcast(flow: Flow, a: int, b: int) -> list[Dim]:
    """The leading dimensions of a matrix product, aligned from the right; those of size 1 are repeated."""
    found: list[Dim] = []
    for d in range(-max(len(flow.shape(a)), len(flow.shape(b)), 2), -2):
        there = [v for v in (a, b) if len(flow.shape(v)) >= -d and flow.shape(v)[d] > 1]
        labels = [flow.dim(v, d) for v in there]
        found.append(flow.equate(labels[0], labels[1]) if len(labels) == 2 else labels[0] if labels else None)
    return found


def _added(node: Node) -> int | None:
    values: list[Any] = [t for t in node.args if value_of(t) is not None]
    return values[0].value if len(values) == 3 else None


def embedding(flow: Flow, node: Node) -> None:
    """`[rows, width]` looked up by number: rows stay, the width is made."""
    given = arguments(node, "input weight")
    numbers, weight = given["input"].value, given["weight"].value
    flow.freeze(flow.all(numbers), "it holds numbers of rows")
    flow.freeze([flow.dim(weight, 0)], "rows of a table are picked by number")
    flow.role(weight, 1, Role.PRODUCER)
    flow.set(node.outs[0], [*[None] * len(flow.shape(numbers)), flow.dim(weight, 1)])


def prelu(flow: Flow, node: Node) -> None:
    """One slope, or one for each channel."""
    source, weight = tensors(node)
    dims = flow.all(source)
    if flow.shape(weight)[0] > 1:
        dims[1] = flow.equate(dims[1], flow.dim(weight, 0))
        flow.role(weight, 0, Role.CARRIER)
    flow.set(node.outs[0], dims)


RULES = {
    "linear": linear,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "mm": matmul,
    "bmm": matmul,
    "matmul": matmul,
    "addmm": matmul,
    "baddbmm": matmul,
    "mv": matmul,
    "dot": matmul,
    "embedding": embedding,
    "prelu": prelu,
}
