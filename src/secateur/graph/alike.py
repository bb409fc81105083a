"""Modules and families that are alike: what is found of one of them is taken to hold for all."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import nn

from secateur.core.plan import Mend

from .capture import Call
from .coupling import Coupling, Family, Gone
from .trial import Mismatch, mends_of


class Modules:
    """Which modules of a model are alike: those of one class, or layers of one path but for numbers."""

    def __init__(self, model: nn.Module) -> None:
        self._kinds = {path: type(module) for path, module in model.named_modules(remove_duplicate=False)}
        self.like = cache(self._like)

    def _like(self, path: str) -> frozenset[str]:
        kind = self._kinds[path]
        if path and not _is_layer(kind):
            return frozenset(other for other, its in self._kinds.items() if its is kind)
        return frozenset(other for other in self._kinds if pattern(other) == pattern(path))

    def around(self, path: str) -> str:
        """The nearest module around an operation that is more than a layer."""
        while path and _is_layer(self._kinds[path]):
            path = path.rpartition(".")[0]
        return path


def _is_layer(kind: type[nn.Module]) -> bool:
    """Whether a class is a layer: one of torch's own, or one that says of itself that it is a single operation."""
    return kind.__module__.startswith("torch.nn") or getattr(kind, "single_operation", False)


def pattern(path: str) -> str:
    """A path, with all numbers alike."""
    return ".".join("*" if part.isdigit() else part for part in path.split("."))


def by_name(families: Iterable[Family]) -> list[list[Family]]:
    """Families of the same name but for numbers, together."""
    found: dict[str, list[Family]] = {}
    for family in families:
        found.setdefault(pattern(family.name), []).append(family)
    return list(found.values())


@dataclass(frozen=True, eq=False)
class Search:
    """Families of a model that are being tried.

    Attributes:
        model, call: what was recorded.
        coupling: as it is known by now.
    """

    model: nn.Module
    call: Call
    coupling: Coupling
    modules: Modules

    def tried(self, gone: Gone) -> Mismatch | None:
        """What no attribute explains when these factors go; None where all is well."""
        found = self.mended(gone)
        return found if isinstance(found, Mismatch) else None

    def mended(self, gone: Gone) -> list[Mend] | Mismatch:
        """The attributes that change when these factors go, or what none explains."""
        return mends_of(self.model, self.call, self.coupling, gone)

    def near(self, module: str) -> list[list[Family]]:
        """The families of which a tensor lies in a module, each with those that lie so in modules that are alike."""
        found: dict[tuple[str, int, str], dict[str, Family]] = {}
        here: set[tuple[str, int, str]] = set()
        for path in sorted(self.modules.like(module)):
            inside = f"{path}." if path else ""
            for family in self.coupling.families:
                first = next((m for m in family.members if m.name.startswith(inside)), None)
                if first is not None:
                    place = (pattern(first.name[len(inside) :]), first.dim, family.kind)
                    found.setdefault(place, {})[family.name] = family
                    here.update([place] if path == module else [])
        return [list(families.values()) for place, families in found.items() if place in here]

    def without_each(self, families: Iterable[Family]) -> Gone:
        """The last unit of each of these is gone."""
        gone = np.zeros(self.coupling.flow.algebra.size, bool)
        gone[[family.factors[-1] for family in families]] = True
        return gone

    def without_some(self, *, even: Collection[str] = (), whole: Collection[str] = ()) -> Gone:
        """Some units of every family are gone: of two that meet in a module, other numbers of units and of positions.

        Args:
            even: names of families that lose one unit each.
            whole: names of families that lose none.
        """
        gone = np.zeros(self.coupling.flow.algebra.size, bool)
        units: dict[str, set[int]] = {}
        positions: dict[str, set[int]] = {}
        alike = by_name(self.coupling.families)
        # those with the least choice come first
        for families in sorted(alike, key=lambda families: min(f.size - f.floor for f in families)):
            if families[0].name in whole:
                continue
            each = max(m.index.shape[1] for m in families[0].members)
            most = 1 if families[0].name in even else min(f.size - f.floor for f in families)
            places = {self._place(m.name) for m in families[0].members}
            taken, filled = (set().union(*(known.get(p, ()) for p in places)) for known in (units, positions))
            new = [k for k in range(1, most + 1) if k not in taken]
            free = [k for k in range(1, most + 1) if k * each not in filled]
            count = next(iter([*(k for k in new if k in free), *new, *free, 1]))
            for place in places:
                units.setdefault(place, set()).add(count)
                positions.setdefault(place, set()).add(count * each)
            for family in families:
                gone[family.factors[-count:]] = True
        return gone

    @staticmethod
    def _place(tensor: str) -> str:
        """The module around the layer that a tensor belongs to."""
        return pattern(tensor.rpartition(".")[0].rpartition(".")[0])
