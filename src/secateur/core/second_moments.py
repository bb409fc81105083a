"""What second moments of inputs tell: their damped inverse, and the layout in which a layer's weights meet it."""

from math import prod

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from .errors import NumericsError
from .input_stats import InputGram
from .keep import Keep
from .space import Group, Member, Space
from .stats import Statistic, Stats


def damped_inverse(gram: Float[Tensor, "in in"], damping: float, where: str = "") -> Float[Tensor, "in in"]:
    """H^-1, with H = 2 gram + damping * mean(diag) * I; a tenfold damping where that is singular, three times."""
    H = 2 * gram
    mean = H.diagonal().mean()
    eye = torch.eye(len(H), dtype=H.dtype, device=H.device)
    for tenfold in range(4):
        L, failed = torch.linalg.cholesky_ex(H + damping * 10**tenfold * mean * eye)
        if not failed and L.isfinite().all():
            inverse: Tensor = torch.cholesky_inverse(L)
            return inverse
    raise NumericsError(
        "the second moments of its inputs have no inverse, damped or not",
        where=where,
        mend="more calibration samples, other inputs, a larger damping=, or exclude=[...]",
    )


def along_inputs(group: Group, each: Shaped[Tensor, " in"]) -> Tensor:
    """One value per input column of a layer, laid out as its weight: `[out, in, ...]`, or `[in, out]` of GPT-2.

    Inputs of a convolution come as patches, `[in * kernel]`.
    """
    assert group.site is not None
    tensor, turned = group.site.tensor, group.site.axes[:1] == (1,)
    if turned:
        return each[:, None].expand(tensor.shape)
    return each.reshape(1, *tensor.shape[1:]).expand(tensor.shape)


def reads(member: Member, stats: Stats, of: Statistic = InputGram()) -> bool:
    """Whether a member's dimension only reads units, in a layer whose inputs were seen."""
    return member.roles == {"consumer"} and (member.group.name, of) in stats.values


def lost_positions(
    space: Space, keep: Keep, stats: Stats, of: Statistic = InputGram()
) -> dict[str, tuple[Member, Bool[Tensor, " positions"]]]:
    """Which positions of the layers that read units go, by the name of the member's slices; layers seen alone."""
    gone: dict[str, tuple[Member, Tensor]] = {}
    for group in space:
        for m in group.members:
            if reads(m, stats, of):
                _, positions = gone.setdefault(m.group.name, (m, torch.zeros(m.group.size, dtype=torch.bool)))
                positions[m.index[~keep[group.name].cpu()].flatten()] = True
    return {name: (m, positions) for name, (m, positions) in gone.items() if positions.any()}


def width_of(member: Member) -> int:
    """How many columns of the layer's inputs each position is: the places of a convolution's kernel."""
    return prod(member.tensor.shape[2:]) if member.dim < 2 else 1


def as_matrix(slices: Group, width: int) -> Float[Tensor, "out in"]:
    """The rows of a group of slices as columns, `width` of them each, in the order of the layer's inputs."""
    rows = slices.weight.double().reshape(slices.size, -1, width)
    return rows.permute(1, 0, 2).reshape(rows.shape[1], -1)


def as_tensor(W: Float[Tensor, "out in"], slices: Group, width: int) -> Tensor:
    """The inverse of `as_matrix`, in the tensor's own shape."""
    rows = W.reshape(len(W), slices.size, width).permute(1, 0, 2).reshape(slices.size, -1)
    assert slices.site is not None
    return slices.site.fold(rows).to(slices.site.tensor.dtype)
