"""Views and their kin: what moves positions about, takes them apart, or puts them together."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from ..flow import Flow, tensors, value_of
from ..ir import Node
from ..labels import Dim


def view(flow: Flow, node: Node) -> None:
    """Mixed radix: dimensions are merged and split in runs of equal product."""
    source, out = tensors(node)[0], node.outs[0]
    flow.set(out, reshaped(flow, flow.all(source), flow.shape(source), flow.shape(out)))


def reshaped(flow: Flow, dims: Sequence[Dim], old: Sequence[int], new: Sequence[int]) -> list[Dim]:
    """The labels of a tensor after a reshape from `old` to `new`."""
    found: list[Dim] = [None] * len(new)
    i = j = 0
    while i < len(old) and j < len(new):
        a, b, end_i, end_j = old[i], new[j], i + 1, j + 1
        while a != b:
            if a < b:
                a *= old[end_i]
                end_i += 1
            else:
                b *= new[end_j]
                end_j += 1
        pieces = _pieces(flow, dims[i:end_i], old[i:end_i], new[j:end_j])
        if pieces is not None:
            found[j:end_j] = pieces
            i, j = end_i, end_j
            continue
        whole = flow.algebra.merged([(dims[k], old[k]) for k in range(i, end_i)])
        for k in range(j, end_j - 1):
            rest = prod(new[k + 1 : end_j])
            found[k], whole = flow.algebra.split(whole, new[k], rest)
        found[end_j - 1] = whole
        i, j = end_i, end_j
    return found


def _pieces(flow: Flow, dims: Sequence[Dim], old: Sequence[int], new: Sequence[int]) -> list[Dim] | None:
    """The labels of a run that is taken apart at the boundaries of both sides, where each divides the next.

    Channels and places that become groups and the rest, as a group norm in views has it: the channels are groups times
    what is in one, and those go with the places. None where the boundaries do not nest.
    """
    ends_old, ends_new = ([prod(sizes[k:]) for k in range(len(sizes) + 1)] for sizes in (old, new))
    cuts = sorted({*ends_old, *ends_new}, reverse=True)
    if 0 in cuts or any(a % b for a, b in pairwise(cuts)):
        return None
    parts: dict[int, tuple[Dim, int]] = {}
    for labels, (begin, end) in zip(dims, pairwise(ends_old), strict=True):
        inside = [c for c in cuts if end <= c <= begin]
        for a, b in pairwise(inside):
            first, labels = flow.algebra.split(labels, a // b, b // end) if b > end else (labels, None)
            parts[a] = (first, a // b)
    return [flow.algebra.merged([parts[a] for a in cuts if end < a <= begin]) for begin, end in pairwise(ends_new)]


def expand(flow: Flow, node: Node) -> None:
    """Repeated positions are new ones: copies can be taken away one by one."""
    source, out = tensors(node)[0], node.outs[0]
    shape, old = flow.shape(out), flow.shape(source)
    lead = len(shape) - len(old)
    dims: list[Dim] = []
    for d, size in enumerate(shape):
        if d >= lead and old[d - lead] == size:
            dims.append(flow.dim(source, d - lead))
        else:
            dims.append(flow.fresh(size, ("expand", d)))
    flow.set(out, dims)


def repeat(flow: Flow, node: Node) -> None:
    """Whole copies one after another."""
    source, out = tensors(node)[0], node.outs[0]
    shape, old = flow.shape(out), flow.shape(source)
    lead = len(shape) - len(old)
    dims: list[Dim] = []
    for d, size in enumerate(shape):
        own = old[d - lead] if d >= lead else 1
        labels = flow.dim(source, d - lead) if d >= lead else None
        copies = size // max(own, 1)
        dims.append(flow.algebra.merged([(flow.fresh(copies, ("repeat", d)), copies), (labels, own)]))
    flow.set(out, dims)


def permute(flow: Flow, node: Node) -> None:
    """Dimensions in another order."""
    source = tensors(node)[0]
    dims = flow.all(source)
    order = [d % len(dims) for d in node.args[1]]
    flow.set(node.outs[0], [dims[d] for d in order])


def transpose(flow: Flow, node: Node) -> None:
    """Two dimensions change places."""
    dims = flow.all(tensors(node)[0])
    a, b = (node.args[1], node.args[2]) if len(node.args) > 2 else (0, min(1, len(dims) - 1))
    dims[a], dims[b] = dims[b], dims[a]
    flow.set(node.outs[0], dims)


def unsqueeze(flow: Flow, node: Node) -> None:
    """A dimension of size 1 more."""
    dims = flow.all(tensors(node)[0])
    place = node.args[1] % (len(dims) + 1)
    flow.set(node.outs[0], [*dims[:place], None, *dims[place:]])


def squeeze(flow: Flow, node: Node) -> None:
    """Dimensions of size 1 less."""
    source = tensors(node)[0]
    shape = flow.shape(source)
    which: Any = node.args[1] if len(node.args) > 1 else range(len(shape))
    which = {d % len(shape) for d in ([which] if isinstance(which, int) else which)}
    flow.set(node.outs[0], [flow.dim(source, d) for d, n in enumerate(shape) if not (n == 1 and d in which)])


def select(flow: Flow, node: Node) -> None:
    """One position of a dimension: all of that dimension stays where it is."""
    source = tensors(node)[0]
    dims = flow.all(source)
    dim = node.args[1] % len(dims)
    flow.freeze([dims[dim]], "a single position of it is picked by number")
    flow.set(node.outs[0], [d for i, d in enumerate(dims) if i != dim])


def unbind(flow: Flow, node: Node) -> None:
    """Every position of a dimension by itself."""
    source = tensors(node)[0]
    dims = flow.all(source)
    dim = (node.args[1] if len(node.args) > 1 else 0) % len(dims)
    flow.freeze([dims[dim]], "it is taken apart position by position")
    for out in node.outs:
        flow.set(out, [d for i, d in enumerate(dims) if i != dim])


def slice_(flow: Flow, node: Node) -> None:
    """A range of positions."""
    source = tensors(node)[0]
    dims, shape = flow.all(source), flow.shape(source)
    given = (*node.args[1:], *(0, None, None, 1)[len(node.args) - 1 :])
    dim = given[0] % len(dims)
    start, end, step = slice(given[1], given[2], given[3]).indices(shape[dim])
    labels = dims[dim]
    if labels is not None and (start, end, step) != (0, shape[dim], 1):
        dims[dim] = labels[start:end:step]
        if step != 1:
            flow.freeze([labels], "every n-th position of it is taken")
    flow.set(node.outs[0], dims)


def split(flow: Flow, node: Node) -> None:
    """Consecutive ranges; those of one common size must keep one common size."""
    source = tensors(node)[0]
    dims = flow.all(source)
    sizes = node.args[1]
    dim = (node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)) % len(dims)
    labels = dims[dim]
    lengths = [flow.shape(out)[dim] for out in node.outs]
    parts: list[Dim] = [None] * len(lengths)
    if labels is not None:
        ends = np.cumsum([0, *lengths])
        parts = [labels[a:b] for a, b in pairwise(ends)]
        if isinstance(sizes, int) and len(parts) > 1:
            if lengths[-1] != lengths[0]:
                flow.freeze(parts, "its parts of one size do not come out even")
            for other in parts[1:]:
                if len(other) == len(parts[0]):  # type: ignore[arg-type]
                    flow.equate(parts[0], other)
    for out, part in zip(node.outs, parts, strict=True):
        flow.set(out, [part if i == dim else d for i, d in enumerate(dims)])


def cat(flow: Flow, node: Node) -> None:
    """Positions one after another; the other dimensions are one."""
    listed = node.args[0] if node.args else node.kwargs["tensors"]
    out = node.outs[0]
    rank = len(flow.shape(out))
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    dim = given % rank
    values = [v for v in map(value_of, listed) if v is not None and len(flow.shape(v)) == rank]
    dims: list[Dim] = []
    for d in range(rank):
        if d == dim:
            dims.append(_joined(flow, [(flow.dim(v, d), flow.shape(v)[d]) for v in values]))
            continue
        found = flow.dim(values[0], d)
        for v in values[1:]:
            found = flow.equate(found, flow.dim(v, d))
        dims.append(found)
    flow.set(out, dims)


def _joined(flow: Flow, parts: Sequence[tuple[Dim, int]]) -> Dim:
    if all(labels is None for labels, _ in parts):
        return None
    resolved = [np.zeros((n, 0), np.int32) if p is None else flow.algebra.resolve(p) for p, n in parts]
    width = max(p.shape[1] for p in resolved)
    padded = [np.pad(p, ((0, 0), (0, width - p.shape[1]))) for p in resolved]
    return np.concatenate(padded).astype(np.int32) if width else None


def stack(flow: Flow, node: Node) -> None:
    """A new dimension, in which each tensor is one position."""
    values = [v for v in map(value_of, node.args[0]) if v is not None]
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    found = flow.all(values[0])
    for v in values[1:]:
        found = [flow.equate(a, b) for a, b in zip(found, flow.all(v), strict=True)]
    place = given % (len(found) + 1)
    flow.set(node.outs[0], [*found[:place], None, *found[place:]])


def pad(flow: Flow, node: Node) -> None:
    """Positions that this node makes before and after those that are there; a negative amount takes some away."""
    source = tensors(node)[0]
    dims, shape = flow.all(source), flow.shape(source)
    amounts = node.args[1]
    for k in range(len(amounts) // 2):
        d = len(shape) - 1 - k
        before, after = amounts[2 * k], amounts[2 * k + 1]
        labels = dims[d]
        if labels is None or (before == 0 and after == 0):
            continue
        inner = labels[max(-before, 0) : len(labels) - max(-after, 0)]
        parts = [(flow.fresh(max(before, 0), (d, 0)), max(before, 0)), (inner, len(inner))]
        parts += [(flow.fresh(max(after, 0), (d, 1)), max(after, 0))]
        dims[d] = _joined(flow, [p for p in parts if p[1]])
    flow.set(node.outs[0], dims)


def im2col(flow: Flow, node: Node) -> None:
    """Windows: channels times places in the window."""
    source, out = tensors(node)[0], node.outs[0]
    dims, shape = flow.all(source), flow.shape(source)
    lead = len(shape) - 3
    places = flow.shape(out)[lead + 1 - 1] // shape[lead]
    flow.freeze(dims[lead + 1 :], "windows run along it")
    flow.set(out, [*dims[:lead], flow.algebra.merged([(dims[lead], shape[lead]), (None, places)]), None])


def windows(flow: Flow, node: Node) -> None:
    """`Tensor.unfold`: windows along one dimension, their places in a new last one."""
    source = tensors(node)[0]
    dims = flow.all(source)
    dim = node.args[1] % len(dims)
    flow.freeze([dims[dim]], "windows run along it")
    dims[dim] = None
    flow.set(node.outs[0], [*dims, None])


def pixel_shuffle(flow: Flow, node: Node) -> None:
    """Each output channel comes from r * r input channels, which go together."""
    source, out = tensors(node)[0], node.outs[0]
    dims = flow.all(source)
    channels = flow.shape(out)[-3]
    rows, cols = flow.algebra.split(dims[-3], channels, flow.shape(source)[-3] // channels)
    flow.freeze([cols], "it becomes places in the picture")
    flow.set(out, [*dims[:-3], rows, None, None])


def pixel_unshuffle(flow: Flow, node: Node) -> None:
    """Each input channel becomes r * r output channels."""
    source, out = tensors(node)[0], node.outs[0]
    dims = flow.all(source)
    size = flow.shape(source)[-3]
    merged = flow.algebra.merged([(dims[-3], size), (None, flow.shape(out)[-3] // size)])
    flow.set(out, [*dims[:-3], merged, None, None])


def restrided(flow: Flow, node: Node) -> None:
    """`as_strided`: another layout of the same shape changes nothing; anything else is unknown."""
    source = tensors(node)[0]
    dims = flow.all(source)
    if flow.shape(node.outs[0]) != flow.shape(source):
        flow.freeze(dims, "another tensor is laid over it")
        dims = [None] * len(flow.shape(node.outs[0]))
    flow.set(node.outs[0], dims)


RULES = {
    "as_strided": restrided,
    "view": view,
    "_unsafe_view": view,
    "reshape": view,
    "_reshape_alias": view,
    "flatten": view,
    "unflatten": view,
    "expand": expand,
    "repeat": repeat,
    "permute": permute,
    "transpose": transpose,
    "t": transpose,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "select": select,
    "unbind": unbind,
    "slice": slice_,
    "split": split,
    "unsafe_split": split,
    "split_with_sizes": split,
    "cat": cat,
    "stack": stack,
    "constant_pad_nd": pad,
    "im2col": im2col,
    "unfold": windows,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
}
