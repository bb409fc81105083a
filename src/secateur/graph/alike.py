"""Modules and families that are alike: what is found of one of them is taken to hold for all."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import nn

from .capture import Call
from .coupling import Coupling, Family, Gone
from .trial import Mismatch, mends_of


class Patterns:
    """Paths of a model as they are seen from the module around them.

    Two attentions are alike wherever they stand, and two layers of a list: what counts is the class of the nearest
    module around that is not one of torch's own, and the path from there, with all numbers alike.
    """

    def __init__(self, model: nn.Module) -> None:
        self._kinds = {path: type(module) for path, module in model.named_modules(remove_duplicate=False)}
        self.of = cache(self._of)

    def _of(self, path: str) -> str:
        parts = path.split(".") if path else []
        end = next((n for n in range(len(parts), 0, -1) if self._is_own(".".join(parts[:n]))), 0)
        kind = self._kinds[".".join(parts[:end])]
        tail = ("*" if part.isdigit() else part for part in parts[end:])
        return f"{kind.__module__}.{kind.__qualname__}:{'.'.join(tail)}"

    def _is_own(self, path: str) -> bool:
        kind = self._kinds.get(path)
        return kind is not None and not kind.__module__.startswith("torch.nn")


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
    patterns: Patterns

    def tried(self, gone: Gone) -> Mismatch | None:
        """What no attribute explains when these factors go; None where all is well."""
        found = mends_of(self.model, self.call, self.coupling, gone)
        return found if isinstance(found, Mismatch) else None

    def alike(self) -> list[list[Family]]:
        """Families of the same kind in the same place of alike modules, together."""
        found: dict[str, list[Family]] = {}
        for family in self.coupling.families:
            found.setdefault(self._name(family), []).append(family)
        return list(found.values())

    def near(self, module: str) -> list[list[Family]]:
        """Those of which a tensor lies in a module."""
        return [fs for fs in self.alike() if any(m.name.startswith(module) for f in fs for m in f.members)]

    def without_each(self, families: Iterable[Family]) -> Gone:
        """The last unit of each of these is gone."""
        gone = np.zeros(self.coupling.flow.algebra.size, bool)
        gone[[family.factors[-1] for family in families]] = True
        return gone

    def without_some(self, *, even: Collection[str] = (), whole: Collection[str] = ()) -> Gone:
        """Some units of every family are gone, so that no two that meet in a module lose equally many positions.

        Args:
            even: names of families that lose one unit each.
            whole: names of families that lose none.
        """
        gone = np.zeros(self.coupling.flow.algebra.size, bool)
        taken: dict[str, set[int]] = {}
        for families in self.alike():
            if families[0].name in whole:
                continue
            each = max(m.index.shape[1] for m in families[0].members)
            most = 1 if families[0].name in even else min(f.size - f.floor for f in families)
            places = {self._place(m.name) for m in families[0].members}
            near = set().union(*(taken.get(place, ()) for place in places))
            count = next((k for k in range(1, most + 1) if k * each not in near), 1)
            for place in places:
                taken.setdefault(place, set()).add(count * each)
            for family in families:
                gone[family.factors[-count:]] = True
        return gone

    def _name(self, family: Family) -> str:
        return f"{self.patterns.of(family.module)}/{family.kind}#{family.name.partition('#')[2]}"

    def _place(self, tensor: str) -> str:
        """The module around the layer that a tensor belongs to."""
        return self.patterns.of(tensor.rpartition(".")[0].rpartition(".")[0])
