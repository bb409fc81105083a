"""Erdos-Renyi budgets: small layers stay denser, as in a random bipartite graph with a fixed mean degree."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from secateur.core import Budget, BudgetError, Counts, Group, Space, Stats, SubjectError, Target

from .apportion import from_densities


def scaled_densities(raw: Mapping[str, float], sizes: Mapping[str, float], density: float) -> dict[str, float]:
    """Densities eps * raw_l, at most 1, whose mean over all units is `density`.

    A layer that would exceed 1 becomes dense, and eps is found again for the rest, until none does
    (Evci et al., "Rigging the Lottery", ICML 2020, appendix).

    Args:
        raw: positive weights, by group.
        sizes: units, or what they cost, by group.
        density: of the whole, in (0, 1].
    """
    dense: set[str] = set()
    while True:
        free = {n: r for n, r in raw.items() if n not in dense}
        if not free:
            return dict.fromkeys(raw, 1.0)
        budget = density * sum(sizes.values()) - sum(sizes[n] for n in dense)
        eps = budget / sum(r * sizes[n] for n, r in free.items())
        largest = max(free.values())
        if eps * largest <= 1:
            return {n: 1.0 if n in dense else eps * r for n, r in raw.items()}
        dense |= {n for n, r in free.items() if r == largest}


def er_weight(shape: tuple[int, ...]) -> float:
    """(n_in + n_out) / (n_in * n_out), from the first two dimensions only. Mocanu et al., 2018, equation 3."""
    return (shape[0] + shape[1]) / (shape[0] * shape[1])


def erk_weight(shape: tuple[int, ...], power: float = 1.0) -> float:
    """(sum of all dimensions / their product) ** power, kernel included. Evci et al., 2020, section 3."""
    return float((sum(shape) / math.prod(shape)) ** power)


def _allocate(
    space: Space, target: Target, weight: Callable[[tuple[int, ...]], float], where: str
) -> tuple[Space, Counts]:
    raw = {g.name: weight(_tensor_shape(g, where)) for g in space}
    densities = scaled_densities(raw, {g.name: g.size for g in space}, 1 - target.sparsity)
    return space, from_densities(densities, space, target, where)


def _tensor_shape(group: Group, where: str) -> tuple[int, ...]:
    if group.site is None:
        raise SubjectError(
            "a graph of inputs and outputs was asked for units that are not weights",
            where=f"{where}, group {group.name!r}",
            mend="use Uniform",
        )
    return tuple(group.site.tensor.shape)


@dataclass(frozen=True)
class ER(Budget):
    """Erdos-Renyi over input and output channels, kernels ignored."""

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        return _allocate(space, target, er_weight, "ER()")


@dataclass(frozen=True)
class ERK(Budget):
    """Erdos-Renyi-Kernel: all dimensions count.

    Attributes:
        power: exponent of the raw density; 0 is uniform, 1 the published form.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.power >= 0:
            raise BudgetError(f"power is {self.power}", where="ERK(power=...)", mend="0 or more; 1 is the usual one")

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        return _allocate(space, target, lambda shape: erk_weight(shape, self.power), f"ERK(power={self.power})")
