"""Operations over whole dimensions, and those in space."""

from typing import Any

from ..flow import Flow, tensors
from ..ir import Node


def over_dims(flow: Flow, node: Node, given: Any) -> set[int]:
    """The dimensions that an argument names; all of them where it names none."""
    rank = len(flow.shape(tensors(node)[0]))
    if given is None or given == []:
        return set(range(rank))
    return {d % max(rank, 1) for d in ([given] if isinstance(given, int) else given)}


def _reduced(flow: Flow, node: Node, over: set[int]) -> None:
    source = tensors(node)[0]
    dims, rank = flow.all(source), len(flow.shape(source))
    for out in node.outs:
        kept = len(flow.shape(out)) == rank and rank > 0
        flow.set(out, [None if d in over else dims[d] for d in range(rank) if kept or d not in over])


def total(flow: Flow, node: Node) -> None:
    """A sum: what is zero adds nothing."""
    over = over_dims(flow, node, node.args[1] if len(node.args) > 1 else node.kwargs.get("dim"))
    for d in over:
        if flow.dim(tensors(node)[0], d) is not None:
            flow.consume(tensors(node)[0], d)
    _reduced(flow, node, over)


def statistic(flow: Flow, node: Node) -> None:
    """A mean, a maximum, a norm: over those that are there."""
    place = 2 if node.op.removesuffix("_") in ("norm", "linalg_vector_norm") else 1
    over = over_dims(flow, node, node.args[place] if len(node.args) > place else node.kwargs.get("dim"))
    if any(flow.dim(tensors(node)[0], d) is not None for d in over):
        flow.notes.statistics[flow.index] = node.op
    _reduced(flow, node, over)


def measure(flow: Flow, node: Node) -> None:
    """A product of two vectors, by which a spectral norm divides: over those that are there."""
    a, b = tensors(node)[0], tensors(node)[-1]
    if flow.equate(flow.dim(a, 0), flow.dim(b, 0)) is not None:
        flow.notes.statistics[flow.index] = node.op
    flow.set(node.outs[0], [])


def softmax(flow: Flow, node: Node) -> None:
    """A distribution over those that are there."""
    source = tensors(node)[0]
    dims = flow.all(source)
    if dims and dims[node.args[1]] is not None:
        flow.notes.statistics[flow.index] = node.op
    flow.set(node.outs[0], dims)


def spatial(flow: Flow, node: Node) -> None:
    """Pooling, resizing, sampling: batch and channels pass, space is space."""
    source = tensors(node)[0]
    dims = flow.all(source)
    space = next((int(c) for c in reversed(node.op) if c in "123"), 2)
    lead = len(dims) - space
    flow.freeze(dims[lead:], f"{node.op!r} runs along it")
    for other in tensors(node)[1:]:
        flow.freeze(flow.all(other), f"{node.op!r} reads it")
    for out in node.outs:
        flow.set(out, [*dims[:lead], *[None] * (len(flow.shape(out)) - lead)])


def triangle(flow: Flow, node: Node) -> None:
    """The last two dimensions are ordered."""
    source = tensors(node)[0]
    dims = flow.all(source)
    flow.freeze(dims[-2:], f"{node.op!r} reads the order of its positions")
    flow.set(node.outs[0], [*dims[:-2], *[None] * min(2, len(dims))])


_SPATIAL = """max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d
avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d
upsample_bilinear2d upsample_bicubic2d upsample_linear1d upsample_trilinear3d _upsample_bilinear2d_aa
_upsample_bicubic2d_aa _upsample_nearest_exact2d reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
replication_pad2d replication_pad3d grid_sampler_2d grid_sampler_3d roi_align roi_pool"""

RULES = (
    {
        "vdot": measure,
        "sum": total,
        "_softmax": softmax,
        "softmax": softmax,
        "_log_softmax": softmax,
        "log_softmax": softmax,
    }
    | dict.fromkeys(
        [
            "mean",
            "amax",
            "amin",
            "max",
            "min",
            "var",
            "std",
            "var_mean",
            "norm",
            "linalg_vector_norm",
            "prod",
            "logsumexp",
        ],
        statistic,
    )
    | dict.fromkeys(["tril", "triu"], triangle)
    | dict.fromkeys(_SPATIAL.split(), spatial)
)
