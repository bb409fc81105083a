"""Filters with their batch norm folded in: what a layer really multiplies by."""

import torch
from jaxtyping import Float
from torch import Tensor

from .layers import scale_and_shift
from .space import Group, Member


def makers(group: Group) -> list[Member]:
    """The weights that make the units of a group, or take them along one by one (depthwise)."""
    return [m for m in group.members if m.is_parameter and m.tensor.dim() > 1 and m.roles != {"consumer"}]


def folded(
    member: Member, weight: Float[Tensor, "..."] | None = None
) -> tuple[Float[Tensor, "units features"], Float[Tensor, "units positions"]]:
    """The filters that make each unit with their batch norm folded in, and the shifts of what they give, in float64.

    Args:
        member: a producer.
        weight: another value of its tensor.
    """
    site = member.site
    rows = site.tiles(site.tensor.detach() if weight is None else weight).double()
    scale, shift = scale_and_shift(member.layer, rows, len(rows))
    index = member.index.to(rows.device)
    return (rows * scale[:, None])[index].flatten(1), shift[index]


def folded_filters(group: Group) -> Float[Tensor, "units features"]:
    """What all makers of a group multiply by, side by side, in float64."""
    return torch.cat([folded(maker)[0] for maker in makers(group)], 1)
