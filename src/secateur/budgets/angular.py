r"""Layers that turn their tokens more keep more (CFSP: Wang et al., COLING 2025, section 3.2).

    c_l = sigmoid(a (I_l - mean I) / 1e4),     keep_l = c_l / mean(c) (1 - s)

I_l is the sum over all tokens of arccos(cos(x_l, x_{l+1})) / pi. The constant fits the 131,072 tokens of the paper;
here I_l is a mean over tokens, and a is multiplied by 13.1072, so that the number of tokens does not matter.
"""

import logging
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import (
    AngularDistance,
    Budget,
    Counts,
    Group,
    RecipeError,
    Space,
    Statistic,
    Stats,
    Target,
)

from .apportion import apportion, single_lanes, to_stay

_log = logging.getLogger(__name__)
_PAPER_TOKENS, _PAPER_CONSTANT = 128 * 1024, 1e4


def kept_shares(importance: Float[Tensor, " layers"], sparsity: float, a: float = 1.0) -> Float[Tensor, " layers"]:
    """keep_l = c_l / mean(c) (1 - s), c = sigmoid(a (I - mean I)); drawn to the mean where a layer would keep all.

    Their mean is 1 - s, and the largest is below 1.
    """
    c = torch.sigmoid(a * (importance - importance.mean()))
    mean, largest = c.mean(), c.max()
    if sparsity and largest / mean * (1 - sparsity) >= 1:
        c = mean + (c - mean) * mean * (1 / (1 - sparsity) - 1) / (largest - mean) / 1.05
    return c / mean * (1 - sparsity)


@dataclass(frozen=True)
class AngularShares(Budget):
    """Groups keep shares that grow with the angular distance over their block; exact in sum.

    A group that lies in no block counts as average, and a warning says so.

    Attributes:
        a: how sharply layers differ; 0 is uniform.
        round_to: counts are rounded to the nearest multiple, at least one; then their sum is not exact.
        compat: "release" takes sums over tokens over 1e4, so that more calibration makes layers differ more.

    Raises:
        RecipeError: round_to is below 1, or more than half of a group.
    """

    a: float = 1.0
    round_to: int = 1
    compat: Literal["none", "release"] = "none"

    def __post_init__(self) -> None:
        if self.round_to < 1:
            what, where = f"round_to is {self.round_to}", "AngularShares(round_to=...)"
            raise RecipeError(what, where=where, mend="1 or more; 128 suits GPUs")

    @property
    def needs(self) -> tuple[Statistic, ...]:
        return (AngularDistance(),)

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        where = f"AngularShares(a={self.a}, round_to={self.round_to})"
        single_lanes(space, where)
        for group in space:
            if self.round_to > 1 and self.round_to > group.size / 2:
                raise RecipeError(
                    f"multiples of {self.round_to} leave {group.size} units no choice",
                    where=f"{where}, group {group.name!r}",
                    mend=f"{group.size // 2} at most",
                )
        shares = kept_shares(self._importance(space, evidence), target.sparsity, self.a)
        wanted = {g.name: float(share) * g.size for g, share in zip(space, shares, strict=True)}
        if self.round_to == 1:
            return space, apportion(wanted, space, to_stay(space, target), where)
        return space, {g.name: self._rounded(wanted[g.name], g) for g in space}

    def _rounded(self, wanted: float, group: Group) -> int:
        """The nearest multiple above the floor; all of a group that loses nothing."""
        if wanted >= group.size:
            return group.size
        lowest = max(-(-group.floor // self.round_to), 1)
        return min(max(round(wanted / self.round_to), lowest), group.size // self.round_to) * self.round_to

    def _importance(self, space: Space, evidence: Stats) -> Float[Tensor, " groups"]:
        seen = [_distance(g, evidence) for g in space]
        heard = [s for s in seen if s is not None]
        if len(heard) < len(space):
            alone = [g.name for g, s in zip(space, seen, strict=True) if s is None]
            _log.warning("%s lies in no block whose tokens were seen: it counts as average", ", ".join(alone[:5]))
        if not heard:
            return torch.zeros(len(space), dtype=torch.float64)
        mean, tokens = torch.stack(heard).cpu().T
        scale = tokens / _PAPER_CONSTANT if self.compat == "release" else _PAPER_TOKENS / _PAPER_CONSTANT
        values = iter(mean * scale)
        average = (mean * scale).mean()
        return torch.stack([average if s is None else next(values) for s in seen])


def _distance(group: Group, evidence: Stats) -> Tensor | None:
    """Mean and tokens of the block around a group's first tensor that lies in one."""
    keys = [(leaf.name, AngularDistance()) for leaf in group.leaves]
    return next((evidence.values[key] for key in keys if key in evidence.values), None)
