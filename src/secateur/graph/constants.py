"""What the Python constants of an operation must become when some positions go."""

from collections.abc import Iterator, Sequence
from typing import Any

from .coupling import Coupling, Gone
from .flow import arguments, tensors
from .ir import Node
from .labels import Labels


def constants(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    """(old, new) for the integers of a node that are sizes; -1 says of itself what it is.

    Of a slice between two bounds its length too: the second bound may be computed as the first and that.
    """
    find = _SIZES.get(node.op.removesuffix("_"))
    if find is None:
        return
    told = [(old, new) for old, new in find(node, coupling, gone) if old > 0]
    yield from told
    if node.op == "slice" and len(told) == 2:
        (begin, begins), (end, ends) = told
        yield end - begin, ends - begins


def misplaced(node: Node, args: Sequence[Any], coupling: Coupling, gone: Gone) -> tuple[int, int] | None:
    """(wanted, given) of a number that says where, not how much: the shape that comes out does not tell it is wrong.

    Args:
        args: with which the operation runs on the smaller model.
    """
    if node.op == "constant_pad_nd":
        numbers = zip(_SIZES[node.op](node, coupling, gone), node.args[1], strict=True)
        told = [pair for pair, old in numbers if old > 0]
        given = [now for now, old in zip(args[1], node.args[1], strict=True) if old > 0]
    elif node.op == "slice" and len(args) == len(node.args):
        source = tensors(node)[0]
        dim = (node.args[1] if len(node.args) > 1 else 0) % len(coupling.flow.shape(source))
        was, size = coupling.flow.shape(source)[dim], coupling.shape(source, gone)[dim]
        told = list(_SIZES[node.op](node, coupling, gone))
        given = [_bound(now, size) for old, now in zip(node.args[2:4], args[2:4], strict=True) if _inside(old, was)]
    else:
        return None
    return next(((wanted, now) for (_, wanted), now in zip(told, given, strict=True) if wanted != now), None)


def _inside(bound: int | None, size: int) -> bool:
    return bound is not None and 0 < bound <= size


def _bound(given: int | None, size: int) -> int:
    if given is None:
        return size
    return min(given if given >= 0 else given + size, size)


def sizes(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    """(value, dimension) of what a node fixes by a constant that should change."""
    out = node.outs[0] if node.outs else None
    if out is None:
        return
    shape = coupling.shape(out, gone)
    if node.op in _WHOLE:
        given = next((a for a in node.args if isinstance(a, tuple | list)), ())
        for dim, (old, new) in enumerate(zip(given, shape, strict=False)):
            if old not in (-1, new):
                yield out, dim
        return
    if any(old != new for old, new in constants(node, coupling, gone)):
        for value in (*node.outs, *tensors(node)):
            for dim, n in enumerate(coupling.shape(value, gone)):
                if n != coupling.flow.shape(value)[dim]:
                    yield value, dim


def padded(node: Node, coupling: Coupling) -> Iterator[Labels]:
    """The labels of the positions that a padding makes."""
    for k in range(len(node.args[1]) // 2):
        before, after = (max(n, 0) for n in node.args[1][2 * k : 2 * k + 2])
        labels = coupling.flow.dim(node.outs[0], -1 - k)
        if labels is not None:
            yield labels[:before]
            yield labels[len(labels) - after :]


def _shape(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    yield from zip(node.args[1], coupling.shape(node.outs[0], gone), strict=False)


def _made(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    sizes = next((a for a in node.args if isinstance(a, tuple | list)), ())
    yield from zip(sizes, coupling.shape(node.outs[0], gone), strict=False)


def _split(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    source = tensors(node)[0]
    dim = (node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)) % len(coupling.flow.shape(source))
    sizes = [coupling.shape(out, gone)[dim] for out in node.outs]
    given = node.args[1]
    yield from zip([given] if isinstance(given, int) else given, sizes, strict=False)


def _slice(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    source = tensors(node)[0]
    shape = coupling.flow.shape(source)
    dim = (node.args[1] if len(node.args) > 1 else 0) % len(shape)
    stays = coupling.stays(coupling.flow.dim(source, dim), shape[dim], gone)
    for bound in node.args[2:4]:
        if _inside(bound, shape[dim]):
            yield bound, int(stays[:bound].sum())


def _pad(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    out = node.outs[0]
    shape, dims = coupling.flow.shape(out), coupling.flow.all(out)
    for k in range(len(node.args[1]) // 2):
        before, after = node.args[1][2 * k : 2 * k + 2]
        stays = coupling.stays(dims[-1 - k], shape[-1 - k], gone)
        yield before, int(stays[: max(before, 0)].sum())
        yield after, int(stays[len(stays) - max(after, 0) :].sum())


def _groups(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    if node.op == "group_norm":
        groups, at = arguments(node, "input num_groups")["num_groups"], 1
    else:
        names = "input weight bias stride padding dilation groups"
        if node.op == "conv_transpose":
            names = "input weight bias stride padding output_padding groups dilation"
        groups = arguments(node, names).get("groups", 1)
        source, weight = tensors(node)[:2]
        at = len(coupling.flow.shape(source)) - len(coupling.flow.shape(weight)) + 1
    source = tensors(node)[0]
    size = coupling.flow.shape(source)[at]
    stays = coupling.stays(coupling.flow.dim(source, at), size, gone)
    yield groups, int(stays.reshape(groups, -1).any(1).sum())


def _normalized(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    given = arguments(node, "input normalized_shape")
    shape = coupling.shape(given["input"].value, gone)
    yield from zip(given["normalized_shape"], shape[len(shape) - len(given["normalized_shape"]) :], strict=True)


def _repeats(node: Node, coupling: Coupling, gone: Gone) -> Iterator[tuple[int, int]]:
    source = tensors(node)[0]
    old, new = coupling.shape(source, gone), coupling.shape(node.outs[0], gone)
    padded = (*[1] * (len(new) - len(old)), *old)
    yield from ((r, n // max(o, 1)) for r, n, o in zip(node.args[1], new, padded, strict=False))


_ALIKE = ["zeros", "ones", "empty", "full", "rand", "randn", "new_zeros", "new_ones", "new_empty", "new_full"]
_WHOLE = frozenset({"view", "_unsafe_view", "expand", *_ALIKE})
_SIZES = {
    **dict.fromkeys(_ALIKE, _made),
    "view": _shape,
    "_unsafe_view": _shape,
    "expand": _shape,
    "repeat": _repeats,
    "split": _split,
    "unsafe_split": _split,
    "split_with_sizes": _split,
    "slice": _slice,
    "constant_pad_nd": _pad,
    "conv": _groups,
    "conv_transpose": _groups,
    "group_norm": _groups,
    "layer_norm": _normalized,
    "rms_norm": _normalized,
}
