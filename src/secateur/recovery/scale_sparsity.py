r"""Sparse training of the scales of batch norms, each channel at a rate of its own.

    grad(gamma_c) += strength * f_c(t) * sign(gamma_c)

(Liu et al., "Network Slimming", ICCV 2017, equation 1, whose f is 1). The subgradient is added to the gradient, as the
official code of slimming does; an adaptive optimizer rescales it like any other. A unit without a batch norm has its
length for a scale: gamma = ||w_c||, whose derivative is w_c / ||w_c||.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secateur.core import Group, Keep, RecipeError, Space, Structure
from secateur.core.folding import makers
from secateur.core.scales import lengths, norm_scales
from secateur.core.strands import as_units, in_order_of

from .sparse_training import SparseTraining, along

_WARM, _UNTIL, _FAINT = 0.1, 0.7, 0.01


def dynamic_factor(progress: float, above: Bool[Tensor, " units"]) -> Float[Tensor, " units"]:
    """f(t): rises over the first tenth, is 1 up to seven tenths; then 0.01 for scales above the median, else 1."""
    if progress < _UNTIL:
        return torch.full(above.shape, min(1.0, progress / _WARM), device=above.device)
    return torch.where(above, _FAINT, 1.0)


@runtime_checkable
class Rate(Protocol):
    """At what rate each unit of a group is shrunk: the selector and the schedule in one."""

    def __call__(
        self, progress: float, group: Group, scales: Float[Tensor, " units"], median: float
    ) -> Float[Tensor, " units"]:
        """A factor for each unit.

        Args:
            progress: share of the sparse training that is done.
            scales: |gamma| of the units.
            median: of |gamma| in the group's section.
        """
        ...

    def of(self, space: Space) -> Space:
        """The space with the units that it knows."""
        return space


@dataclass(frozen=True)
class Steady(Rate):
    """All units at the same rate, always."""

    def __call__(self, progress: float, group: Group, scales: Tensor, median: float) -> Tensor:
        return torch.ones_like(scales)


@dataclass(frozen=True)
class Dynamic(Rate):
    """Rises, holds, and then lets those go free that lie above the median of their section."""

    def __call__(self, progress: float, group: Group, scales: Tensor, median: float) -> Tensor:
        return dynamic_factor(progress, scales > median).to(scales.dtype)


@dataclass(frozen=True)
class Selected(Rate):
    """Only units that a keep removes; groups that it does not know are left alone."""

    keep: Keep

    def __call__(self, progress: float, group: Group, scales: Tensor, median: float) -> Tensor:
        if group.name not in self.keep:
            return torch.zeros_like(scales)
        mask = self.keep[group.name]
        if mask.numel() not in (group.size, group.size * group.strands):
            raise RecipeError(
                f"the keep has {mask.numel()} units, and there are {len(scales)}",
                where=f"Selected(keep), group {group.name!r}",
                mend="use a keep of this very model",
            )
        return (~as_units(group.name, group.size, mask, group.strands)[0]).to(scales)

    def of(self, space: Space) -> Space:
        """Units of those strands that go together in the keep."""
        return in_order_of(space, self.keep)


@dataclass(frozen=True)
class ScaleSparsity(SparseTraining):
    """Pulls scales of batch norms to zero in the first epochs of a training.

    Attributes:
        structure: finds the units, anew in each epoch.
        epochs: how long it acts; a schedule that cuts then finds scales near zero.
        strength: what is added to the gradient of a scale at full rate.
        rate: which units, and when.
    """

    structure: Structure
    epochs: float
    strength: float = 1e-4
    rate: Rate = Steady()

    def __post_init__(self) -> None:
        if not (self.epochs >= 0 and self.strength >= 0):
            raise RecipeError(
                f"epochs and strength are {self.epochs} and {self.strength}",
                where="ScaleSparsity(epochs, strength)",
                mend="neither is negative; usual strengths lie between 1e-5 and 1e-3",
            )

    def pull_(self, space: Space, progress: float) -> None:
        space = self.rate.of(space)
        scales = {g.name: _scales(g) for g in space}
        sections: dict[str, list[Tensor]] = {}
        for group in space:
            sections.setdefault(group.section, []).append(scales[group.name])
        medians = {key: float(torch.cat(found).median()) for key, found in sections.items()}
        for group in space:
            rate = self.rate(progress, group, scales[group.name], medians[group.section])
            _add_(group, scales[group.name], self.strength * rate)


def _scales(group: Group) -> Float[Tensor, " units"]:
    """|gamma| of each unit, the mean over the norms that it passes through; else the length of its filters."""
    found = norm_scales(group)
    if not found:
        return lengths(group)
    rows = [m.tensor.detach().float().abs()[m.index.to(m.tensor.device)].mean(1) for m in found]
    return torch.stack(rows).mean(0)


def _add_(group: Group, scales: Tensor, strength: Float[Tensor, " units"]) -> None:
    """The subgradient of sum_c strength_c |gamma_c|, added to the gradients in place."""
    found = norm_scales(group)
    for member in found or makers(group):
        weight = member.tensor
        if weight.grad is None:
            continue
        each = strength if found else strength / scales.clamp_min(torch.finfo(scales.dtype).tiny)
        weight.grad += (along(each, member) * (weight.sign() if found else weight)).to(weight.grad.dtype)
