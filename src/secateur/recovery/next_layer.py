r"""Repair of the next layer, without data (Bai et al., "Unified Data-Free Compression", ICCV 2023).

The output of a damaged channel j is taken for a linear combination of those that stay, with s_ij from `closed_form`:

    U[:, i] += s_ij U[:, j]   for the layers U that read the channels

A pruned channel has lost all of itself, a quantised one v_j - v_j^q. The mean that is missing then goes into the bias.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from secateur.core import Group, Healing, Keep, Member, RecipeError, Recovery, Space, Stats, Task
from secateur.core.folding import folded, makers

from .closed_form import combination, mean_after_relu, quantized
from .values import Values

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NextLayer(Recovery):
    """At every cut, the layers that read what goes are given its part in what stays; weights are quantised if asked.

    Attributes:
        lam1: weight of the shifts; 0 where a layer has no batch norm.
        lam2: ridge, or "relative".
        nonnegative: whether only positive combinations are taken, which a ReLU lets through.
        bits: of the weights that make or read units, 2 to 8, by output channel; None leaves them as they are.
    """

    lam1: float = 0.01
    lam2: float | Literal["relative"] = 0.008
    nonnegative: bool = False
    bits: int | None = None

    def __post_init__(self) -> None:
        where = f"NextLayer(lam1={self.lam1}, lam2={self.lam2!r}, bits={self.bits})"
        if self.bits is not None and not 2 <= self.bits <= 8:
            raise RecipeError(f"bits is {self.bits}", where=where, mend="2 to 8, or None for no quantisation")
        if self.lam1 < 0 or (self.lam2 != "relative" and self.lam2 < 0):
            raise RecipeError("a weight is negative", where=where, mend="0 or more; 0.01 and 0.008 are usual")

    @property
    def needs_task(self) -> bool:
        return False

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """It acts at the cuts alone."""
        return Healing()

    def repaired(self, space: Space, keep: Keep, stats: Stats) -> Mapping[str, Tensor]:
        new = Values()
        for group in space:
            if makers(group):
                self._repair(group, keep[group.name].cpu(), new)
        for name in new.weights if self.bits is not None else ():
            new[name] = quantized(new[name], self.bits or 8)
        return new.told()

    def _repair(self, group: Group, kept: Bool[Tensor, " units"], new: Values) -> None:
        if self.bits is None and kept.all():
            return
        made = makers(group)
        parts = [folded(m, new.of(m)) for m in made]
        filters, shifts = (torch.cat(side, 1) for side in zip(*parts, strict=True))
        stays = filters
        if self.bits is not None:
            for m in made:
                new[m.group.name] = quantized(new.of(m), self.bits)
            stays = torch.cat([folded(m, new.of(m))[0] for m in made], 1)
        normed = all(m.layer is not None and m.layer.norm is not None for m in made)
        if not normed:
            _log.warning("%s has no batch norm: its filters are taken as they are, without shifts", group.name)
        kept = kept.to(filters.device)
        lost = torch.where(kept[:, None], filters - stays, filters)
        lost_shifts = shifts.masked_fill(kept[:, None], 0)
        lam1 = self.lam1 if normed else 0.0
        s = combination(lost, stays[kept], lost_shifts, shifts[kept], lam1, self.lam2, self.nonnegative)
        missing = _missing_means(made, kept, s) if normed else None
        for m in group.members:
            if m.roles == {"consumer"} and m.is_parameter and m.tensor.dim() > 1:
                _move(m, kept, s, missing if _reads_directly(m, made) else None, new)


def _missing_means(made: list[Member], kept: Tensor, s: Tensor) -> Tensor | None:
    """E_j - sum_i s_ij E_i of every unit that goes, for one layer with batch norm and ReLU, else with nothing."""
    layer = made[0].layer
    if len(made) > 1 or made[0].index.shape[1] > 1 or layer is None or layer.activation not in ("relu", ""):
        return None
    assert layer.norm is not None
    mean, deviation = layer.norm.beta(), layer.norm.gamma()
    given = mean_after_relu(mean, deviation) if layer.activation == "relu" else mean
    given = given[made[0].index[:, 0].to(given.device)]
    return (given - s.T @ given[kept]).masked_fill(kept, 0)


def _reads_directly(reader: Member, made: list[Member]) -> bool:
    """Whether nothing, such as a pooling, stands between the activation and the reader."""
    layer = made[0].layer
    return reader.layer is not None and layer is not None and reader.layer.reads == layer.gives


def _move(m: Member, kept: Tensor, s: Tensor, missing: Tensor | None, new: Values) -> None:
    """Give every column of what is lost to the columns that stay, and its mean to the bias or to the norm behind."""
    columns = m.site.tiles(new.of(m))
    index = m.index.to(columns.device)
    old = columns[index]  # [units, positions, elements]
    moved = columns.clone()
    moved[index[kept]] += torch.einsum("kd,d...->k...", s.to(columns), old)
    moved[index[~kept].flatten()] = 0
    new[m.group.name] = m.site.untiled(moved)
    if missing is None or m.layer is None or m.dim != 1:
        return
    shift = torch.einsum("d,dpo->o", missing.to(old), old.reshape(*index.shape, len(m.tensor), -1).sum(3))
    if m.layer.bias is not None:
        bias = m.layer.bias
        new[bias.name] = new.named(bias.name, bias.tensor) + shift
    elif m.layer.norm is not None:
        mean = m.layer.norm.mean
        new[mean.name] = new.named(mean.name, mean.tensor) - shift
