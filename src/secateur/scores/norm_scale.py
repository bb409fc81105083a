"""The scale of a unit's batch norm (Liu et al., "Network Slimming", ICCV 2017)."""

import logging
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, RecipeError, Score, Stats
from secateur.core.folding import makers
from secateur.core.scales import lengths, norm_scales

_log = logging.getLogger(__name__)


def mean_scale(scales: Float[Tensor, "norms units"]) -> Float[Tensor, " units"]:
    """|gamma_c|, the mean over all norms that a unit passes through."""
    return scales.abs().mean(0)


@dataclass(frozen=True)
class NormScale(Score):
    """|gamma|; needs no data.

    A group without a batch norm is judged by the length of its filters, the gate g of W = g v/||v||, over its mean, so
    that a typical gate is 1; a warning says so.
    """

    knows_coupled = True

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        found = norm_scales(group)
        if found:
            rows = [m.group.pool(lambda w: w).reshape(-1)[m.index.to(m.tensor.device)].abs().mean(1) for m in found]
            return mean_scale(torch.stack(rows))
        if not makers(group):
            raise RecipeError(
                "neither a batch norm nor a weight scales its units",
                where=f"NormScale on group {group.name!r}",
                mend=f"exclude=[{group.name!r}]",
            )
        _log.warning("group %r has no batch norm: the lengths of its filters stand for scales", group.name)
        length = lengths(group)
        return length / length.mean().clamp_min(torch.finfo(length.dtype).tiny)
