"""Operators that move positions about, take them apart, or put them together."""

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.core import SubjectError

from ..values import dtype_of
from .table import operator


@operator("Identity")
def identity(at: Any, x: Any) -> Any:
    """The same."""
    return x


@operator("Dropout", since=7)
def dropout_by_attribute(at: Any, x: Tensor) -> Any:
    """The same, and a mask of ones where it is wanted."""
    return (x, torch.ones_like(x)) if at.wanted > 1 else x


@operator("Dropout", since=10, numbers="ratio training")
def dropout(at: Any, x: Tensor, ratio: Any = None, training: Any = None) -> Any:
    """As in inference."""
    if training:
        raise SubjectError("a dropout that is at work", where=f"node {at.title}", mend="export the model in eval mode")
    return (x, torch.ones_like(x, dtype=torch.bool)) if at.wanted > 1 else x


@operator("Cast", since=6)
def cast(at: Any, x: Tensor) -> Tensor:
    """Numbers of another type."""
    return x.to(dtype_of(at.to_, f"node {at.title}"))


@operator("CastLike", since=15)
def cast_like(at: Any, x: Tensor, other: Tensor) -> Tensor:
    """Numbers of the type of another tensor."""
    return x.to(other.dtype)


@operator("Reshape", since=5, numbers="shape")
def reshape(at: Any, x: Tensor, shape: list[int]) -> Tensor:
    """In other dimensions; 0 is the same size as before, -1 the one that is left."""
    sizes = [x.shape[i] if n == 0 and not at.get("allowzero", 0) else n for i, n in enumerate(shape)]
    # copied first where a view will not do: then what does not fit is told by the view, and a trial knows where it was
    return x.contiguous().view(sizes)


@operator("Flatten")
def flatten(at: Any, x: Tensor) -> Tensor:
    """A matrix."""
    axis = at.axis + x.dim() if at.axis < 0 else at.axis
    if axis == 1 and x.dim() > 1 and x.shape[0]:
        return x if x.dim() == 2 else x.flatten(1)
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


@operator("Transpose")
def transpose(at: Any, x: Tensor) -> Tensor:
    """Dimensions in another order."""
    return x.permute(*(at.get("perm") or reversed(range(x.dim()))))


@operator("Squeeze")
def squeeze_by_attribute(at: Any, x: Tensor) -> Tensor:
    """Without dimensions of size 1."""
    return _squeezed(x, at.get("axes"))


@operator("Squeeze", since=13, numbers="axes")
def squeeze(at: Any, x: Tensor, axes: Any = None) -> Tensor:
    """Without dimensions of size 1."""
    return _squeezed(x, axes)


def _squeezed(x: Tensor, axes: Any) -> Tensor:
    if axes is None:
        return x.squeeze()
    return x.squeeze(tuple(axes) if isinstance(axes, list | tuple) else axes)


@operator("Unsqueeze")
def unsqueeze_by_attribute(at: Any, x: Tensor) -> Tensor:
    """With dimensions of size 1."""
    return _unsqueezed(x, at.axes)


@operator("Unsqueeze", since=13, numbers="axes")
def unsqueeze(at: Any, x: Tensor, axes: Any) -> Tensor:
    """With dimensions of size 1."""
    return _unsqueezed(x, axes)


def _unsqueezed(x: Tensor, axes: Any) -> Tensor:
    axes = [axes] if isinstance(axes, int) else list(axes)
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Concat", since=4)
def concat(at: Any, *inputs: Tensor) -> Tensor:
    """One after another."""
    return inputs[0] if len(inputs) == 1 else torch.cat(inputs, at.axis)


@operator("Split", since=2)
def split_by_attribute(at: Any, x: Tensor) -> tuple[Tensor, ...]:
    """Ranges one after another."""
    return _parts(at, x, at.get("split"))


@operator("Split", since=13, numbers="split")
def split(at: Any, x: Tensor, split: Any = None) -> tuple[Tensor, ...]:
    """Ranges one after another."""
    return _parts(at, x, split)


def _parts(at: Any, x: Tensor, sizes: Any) -> tuple[Tensor, ...]:
    if sizes:
        return torch.split(x, list(sizes), at.axis)
    size = x.shape[at.axis]
    return torch.split(x, -(-size // at.wanted), at.axis)


@operator("Slice")
def slice_by_attributes(at: Any, x: Tensor) -> Tensor:
    """Ranges of positions."""
    return _sliced(x, at.starts, at.ends, at.get("axes"), None)


@operator("Slice", since=10, numbers="starts ends axes steps")
def slices(at: Any, x: Tensor, starts: list[int], ends: list[int], axes: Any = None, steps: Any = None) -> Tensor:
    """Ranges of positions, every n-th of them, or backwards."""
    return _sliced(x, starts, ends, axes, steps)


def _sliced(x: Tensor, starts: Any, ends: Any, axes: Any, steps: Any) -> Tensor:
    axes = range(len(starts)) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        axis %= x.dim()
        if step > 0:
            size = x.shape[axis]
            first, last, _ = slice(start, end, step).indices(size)
            if (first, last, step) != (0, size, 1):
                x = torch.ops.aten.slice.Tensor(x, axis, first, max(first, last), step)
        else:
            numbers = list(range(*slice(start, max(end, -x.shape[axis] - 1), step).indices(x.shape[axis])))
            x = x.index_select(axis, torch.tensor(numbers, dtype=torch.int64, device=x.device))
    return x


@operator("Expand", numbers="shape")
def expand(at: Any, x: Tensor, shape: list[int]) -> Tensor:
    """Repeated along dimensions of size 1."""
    own = [1] * (len(shape) - x.dim()) + list(x.shape)
    given = [1] * (len(own) - len(shape)) + list(shape)
    return x.expand([a if b == 1 else b for a, b in zip(own, given, strict=True)])  # which refuses what does not fit


@operator("Tile", since=6, numbers="repeats")
def tile(at: Any, x: Tensor, repeats: list[int]) -> Tensor:
    """Copies one after another."""
    return x.repeat(*repeats)


@operator("Pad", since=2)
def pad_by_attributes(at: Any, x: Tensor) -> Tensor:
    """Positions before and after."""
    return _padded(at, x, list(at.pads), list(range(x.dim())), at.value)


@operator("Pad", since=11, numbers="pads value axes")
def pad(at: Any, x: Tensor, pads: list[int], value: Any = None, axes: Any = None) -> Tensor:
    """Positions before and after."""
    value = value[0] if isinstance(value, list) else value
    return _padded(at, x, pads, [a % x.dim() for a in (axes if axes is not None else range(x.dim()))], value or 0)


def _padded(at: Any, x: Tensor, pads: list[int], axes: list[int], value: Any) -> Tensor:
    half = len(pads) // 2
    each = {axis: (pads[i], pads[half + i]) for i, axis in enumerate(axes)}
    if at.mode == "constant":
        dims = [d for d, pair in each.items() if any(pair)]
        flat = [n for d in range(x.dim() - 1, min(dims, default=x.dim()) - 1, -1) for n in each.get(d, (0, 0))]
        return F.pad(x, flat, value=value) if flat else x
    first = min((d for d, pair in each.items() if any(pair)), default=x.dim())
    mode = {"reflect": "reflect", "edge": "replicate"}.get(at.mode)
    if mode and 2 <= first < x.dim() <= 5 and min(pads) >= 0:
        return F.pad(x, [n for d in range(x.dim() - 1, 1, -1) for n in each.get(d, (0, 0))], mode=mode)
    for d, (before, after) in each.items():
        if before or after:
            numbers = [_inside(i, x.shape[d], at.mode) for i in range(-before, x.shape[d] + after)]
            x = x.index_select(d, torch.tensor(numbers, device=x.device))
    return x


def _inside(place: int, size: int, mode: str) -> int:
    """Which position is found at a place outside."""
    if mode == "edge":
        return min(max(place, 0), size - 1)
    if mode == "wrap":
        return place % size
    turn = max(2 * (size - 1), 1)
    place %= turn
    return place if place < size else turn - place


@operator("DepthToSpace")
def depth_to_space(at: Any, x: Tensor) -> Tensor:
    """Channels become places in the picture."""
    b = at.blocksize
    if at.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, b)
    n, _, h, w = x.shape
    return x.reshape(n, b, b, -1, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * b, w * b)


@operator("SpaceToDepth")
def space_to_depth(at: Any, x: Tensor) -> Tensor:
    """Places in the picture become channels."""
    b = at.blocksize
    n, c, h, w = x.shape
    order = (0, 1, 3, 5, 2, 4) if at.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).permute(*order).reshape(n, -1, h // b, w // b)


@operator("ReverseSequence")
def reverse_sequence(at: Any, x: Tensor, lengths: Tensor) -> Tensor:
    """The first positions of each sample backwards."""
    steps = torch.arange(x.shape[at.time_axis], device=x.device)
    turned = lengths.unsqueeze(1) - 1 - steps
    numbers = torch.where(turned >= 0, turned, steps)  # [batch, time]
    numbers = numbers if at.batch_axis == 0 else numbers.t()
    numbers = numbers.reshape(*numbers.shape, *[1] * (x.dim() - 2)).expand(x.shape)
    return x.gather(at.time_axis, numbers)


@operator("Col2Im", since=18, numbers="image block")
def col2im(at: Any, x: Tensor, image: list[int], block: list[int]) -> Tensor:
    """Windows laid over a picture and added up."""
    rank = len(image)
    pads = list(at.get("pads") or [0] * 2 * rank)
    dilations, strides = at.get("dilations") or [1] * rank, at.get("strides") or [1] * rank
    if rank == 2 and pads[:2] == pads[2:]:
        return F.fold(x, tuple(image), tuple(block), tuple(dilations), tuple(pads[:2]), tuple(strides))
    wide = [n + pads[i] + pads[rank + i] for i, n in enumerate(image)]
    if rank == 2:
        made = F.fold(x, tuple(wide), tuple(block), tuple(dilations), 0, tuple(strides))
        return made[:, :, pads[0] : pads[0] + image[0], pads[1] : pads[1] + image[1]]
    return _laid(x, image, wide, block, list(dilations), list(strides), pads)


def _laid(
    x: Tensor,
    image: list[int],
    wide: list[int],
    block: list[int],
    dilations: list[int],
    strides: list[int],
    pads: list[int],
) -> Tensor:
    rank = len(image)
    places = [(n - d * (k - 1) - 1) // s + 1 for n, k, d, s in zip(wide, block, dilations, strides, strict=True)]
    channels = x.shape[1] // prod(block)
    parts = x.reshape(x.shape[0], channels, prod(block), prod(places))
    grids = []
    for dim in range(rank):
        inner = torch.arange(block[dim]) * dilations[dim]
        outer = torch.arange(places[dim]) * strides[dim]
        shape_in, shape_out = [1] * rank, [1] * rank
        shape_in[dim], shape_out[dim] = -1, -1
        inside = inner.reshape(shape_in).expand(block).reshape(-1, 1)
        grids.append(inside + outer.reshape(shape_out).expand(places).reshape(1, -1))
    flat = grids[0]
    for dim in range(1, rank):
        flat = flat * wide[dim] + grids[dim]
    made = x.new_zeros(x.shape[0], channels, prod(wide)).index_add(2, flat.reshape(-1).to(x.device), parts.flatten(2))
    made = made.reshape(x.shape[0], channels, *wide)
    for dim in range(rank):
        made = made.narrow(2 + dim, pads[dim], image[dim])
    return made
