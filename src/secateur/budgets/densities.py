"""Counts from densities of layers: a dense, narrow network instead of a sparse one (Cai et al., "PreCrop", 2022).

Densities are c r_l, at most 1, with c such that the limit is met. SynExp has r_l = 1 / alpha_l, or 1 over the MACs: all
layers that are not dense keep as many parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from secateur.core import Budget, BudgetError, Counts, RecipeError, Space, Stats, Target, nearest

from .apportion import apportion, to_stay
from .random_graph import erk_weight, scaled_densities
from .synexp import synexp, widths

_ROUNDS = 60


@dataclass(frozen=True)
class _Layer:
    families: tuple[str, ...]
    params: float
    macs: float
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Widths(Budget):
    """Counts from densities of layers, which know neither data nor weights.

    Attributes:
        source: "synexp", "erk" or "uniform"; densities of your own take its place.
        densities: by name of the weight, such as the shares that a mask keeps.
        limits: whether SynExp limits what the target counts alone, or parameters and MACs to the same share.
    """

    source: Literal["synexp", "erk", "uniform"] = "synexp"
    densities: Mapping[str, float] | None = None
    limits: Literal["one", "both"] = "one"

    def __post_init__(self) -> None:
        wrong = [n for n, p in (self.densities or {}).items() if not 0 < p <= 1]
        if wrong:
            where, mend = f"Widths(densities), {wrong[0]!r}", "a share that stays, above 0 and at most 1"
            raise RecipeError(f"its density is {(self.densities or {})[wrong[0]]}", where=where, mend=mend)

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        layers = _layers(space)
        if target.cost:
            wanted = self._widths(space, layers, 1 - target.sparsity, target.cost)
            self._check(space, wanted, layers, target.cost)
            return space, {g.name: min(max(round(wanted[g.name]), g.floor, 1), g.size) for g in space}
        stay = to_stay(space, target)
        low, high = 0.0, 1.0
        for _ in range(_ROUNDS):
            middle = (low + high) / 2
            few = sum(self._widths(space, layers, middle, "").values()) < stay
            low, high = (middle, high) if few else (low, middle)
        wanted = self._widths(space, layers, high, "")
        self._check(space, wanted, layers, "")
        return space, apportion(wanted, space, stay, "Widths()")

    def _widths(self, space: Space, layers: Mapping[str, _Layer], density: float, cost: str) -> dict[str, float]:
        """Units that should stay of each group, not necessarily whole."""
        order = {g.name: i for i, g in enumerate(space)}
        p = self._densities(layers, density, cost)
        rows = [(tuple(order[f] for f in x.families), x.params, p[name]) for name, x in layers.items()]
        return {g.name: m * g.size for g, m in zip(space, widths(len(order), rows), strict=True)}

    def _densities(self, layers: Mapping[str, _Layer], density: float, cost: str) -> dict[str, float]:
        density = max(density, 1e-12)
        macs = cost in ("macs", "latency")
        sizes = {n: x.macs if macs else x.params for n, x in layers.items()}
        if self.densities is not None:
            missing = [n for n in layers if n not in self.densities]
            if missing:
                mend = nearest(missing[0], self.densities)
                raise RecipeError(f"{missing[0]!r} has no density", where="Widths(densities=...)", mend=mend)
            return scaled_densities({n: self.densities[n] for n in layers}, sizes, density)
        if self.source == "synexp" and self.limits == "both":
            found = synexp([x.params for x in layers.values()], [x.macs for x in layers.values()], density)
            return dict(zip(layers, found, strict=True))
        raw = {
            "synexp": {n: 1 / s for n, s in sizes.items()},
            "erk": {n: erk_weight(x.shape) for n, x in layers.items()},
        }
        return scaled_densities(raw.get(self.source, dict.fromkeys(layers, 1.0)), sizes, density)

    def _check(self, space: Space, wanted: Mapping[str, float], layers: Mapping[str, _Layer], cost: str) -> None:
        thin = [g for g in space if wanted[g.name] < 1 - 1e-9]
        if not thin:
            return
        low, high = 0.0, 1.0
        for _ in range(_ROUNDS):
            middle = (low + high) / 2
            found = self._widths(space, layers, middle, cost)
            low, high = (low, middle) if min(found.values()) >= 1 else (middle, high)
        raise BudgetError(
            f"{wanted[thin[0].name]:.3g} of a unit would stay",
            where=f"Widths(), group {thin[0].name!r}",
            mend=f"densities of layers from {high:.3g} of their {cost or 'parameters'} on keep a unit everywhere",
        )


def _layers(space: Space) -> dict[str, _Layer]:
    """Every matrix or convolution that units of the space lie in, with the groups on its two sides."""
    sides: dict[str, dict[int, str]] = {}
    facts: dict[str, tuple[float, float, tuple[int, ...]]] = {}
    for group in space:
        for m in group.members:
            if m.is_parameter and m.tensor.dim() > 1:
                sides.setdefault(m.group.name, {}).setdefault(m.dim, group.name)
                size = float(m.tensor.numel())
                facts[m.group.name] = (size, float(m.layer.macs) if m.layer else size, tuple(m.tensor.shape))
    if not sides:
        mend = "use it with Channels, on layers with weights"
        raise BudgetError("no group lies in a matrix, so there is no density to meet", where="Widths()", mend=mend)
    return {name: _Layer(tuple(dims.values()), *facts[name]) for name, dims in sides.items()}
