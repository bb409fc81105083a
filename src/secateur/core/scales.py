"""What scales the units of a group: the batch norms that they pass through, or else the lengths of their filters."""

import torch
from jaxtyping import Float
from torch import Tensor

from .folding import makers
from .space import Group, Member


def norm_scales(group: Group) -> list[Member]:
    """The scales of the batch norms that the units of a group pass through, one member each; layer norms are none."""
    averages = {
        m.group.name.removesuffix("running_mean") for m in group.members if m.group.name.endswith("running_mean")
    }
    return [m for m in group.members if m.is_parameter and m.group.name.removesuffix("weight") in averages]


def lengths(group: Group) -> Float[Tensor, " units"]:
    """||w_c||_2 over all weights that make a unit: the gate g of W = g v/||v||, for units without a batch norm."""
    squares = [_rows(m).pow(2).sum(1)[m.index.to(m.tensor.device)].sum(1) for m in makers(group)]
    return torch.stack(squares).sum(0).sqrt()


def _rows(member: Member) -> Float[Tensor, "positions features"]:
    weight = member.site.tiles(member.tensor.detach())
    return weight if weight.dtype == torch.float64 else weight.float()
