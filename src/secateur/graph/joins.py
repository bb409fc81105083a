"""Families whose sizes the forward function keeps as one number: they lose the same, or nothing."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from .alike import Search
from .coupling import Family, Gone
from .labels import Labels
from .trial import Mismatch

_MOST_NEAR = 6
_MOST_PAIRS = 4


def join_even(search: Search, found: Mismatch) -> bool:
    """Where one unit of each family can go and unlike numbers cannot: whether two became one, or one was frozen.

    Heads are let alone if possible.
    """
    flow = search.coupling.flow
    near = search.near(found.module)
    near.sort(key=lambda families: families[0].kind in ("heads", "kv-groups", "channels"))
    for some, others in combinations(near[:_MOST_NEAR], 2):
        if not _even(some, others):
            continue
        even = search.without_some(even={f.name for f in (*some, *others)})
        if _gets_further(search.tried(even), found):
            for k in range(max(len(some), len(others))):
                flow.algebra.unite(some[min(k, len(some) - 1)].factors, others[min(k, len(others) - 1)].factors)
            return True
    for families in near[:_MOST_NEAR]:
        rest = search.without_some(whole={f.name for f in families})
        if _gets_further(search.tried(rest), found):
            flow.index = found.node
            why = f"its size and that of another family are one constant of {found.op!r}"
            flow.freeze([family.factors[:, None] for family in families], why)
            return True
    return False


def _even(some: list[Family], others: list[Family]) -> bool:
    """Whether each can lose as many as its counterpart: one for one, or all the same as a single one."""
    sizes = {f.size for f in (*some, *others)}
    return [f.size for f in some] == [f.size for f in others] or (1 in (len(some), len(others)) and len(sizes) == 1)


def join_inner_with_outer(search: Search, found: Mismatch) -> bool:
    """Where a module takes its inner width, heads times features, to be its outer one: whether they became one.

    `x.view(b, n, heads, C // heads)` with C read from the input allows no head to go by itself, and no channel. If a
    head goes together with as many channels, nothing else has to change. So with any two widths that are taken for one.
    """
    flow = search.coupling.flow
    around = search.modules.around(found.module)
    for place, (inner, outer) in enumerate(_pairs(search, around)):
        found_together = _together(inner, outer, flow.algebra.size)
        if found_together is None:
            continue
        alone, other, both = found_together
        if not _gets_further(search.tried(both), found):
            continue
        if search.tried(alone) is None or search.tried(other) is None:
            continue  # nothing ties them
        before = flow.algebra.version
        flow.index = found.node
        for module in sorted(search.modules.like(around)):
            pair = next((p for n, p in enumerate(_pairs(search, module)) if n == place), None)
            if pair is not None:
                flow.equate(*pair)
        return flow.algebra.version > before
    return False


def _pairs(search: Search, module: str) -> Iterator[tuple[Labels, Labels]]:
    """Different dimensions of one length that layers of a module read; one is made of runs, as heads are."""
    flow = search.coupling.flow
    read: dict[bytes, Labels] = {}
    for number, node in enumerate(search.coupling.graph.nodes):
        if node.op not in ("linear", "conv") or not f"{node.module}.".startswith(f"{module}." if module else ""):
            continue
        for value, dim in flow.notes.consumed.get(number, ()):
            labels = flow.dim(value, dim)
            if labels is not None:
                read.setdefault(labels.tobytes(), labels)
    found = ((a, b) for a, b in combinations(read.values(), 2) if len(a) == len(b))
    for _, (a, b) in zip(range(_MOST_PAIRS), found, strict=False):
        yield (a, b) if _runs(a) >= _runs(b) else (b, a)


def _runs(labels: Labels) -> int:
    """At how many positions the factor lies that lies at the most."""
    return int(np.unique(labels[labels > 0], return_counts=True)[1].max(initial=0))


def _together(inner: Labels, outer: Labels, size: int) -> tuple[Gone, Gone, Gone] | None:
    """A factor of many positions of the one, what lies there in the other, and both; None where more would go."""
    names, counts = np.unique(inner[inner > 0], return_counts=True)
    factor = int(names[counts == counts.max()][-1])
    where = (inner == factor).any(1)
    alone, other = np.zeros(size, bool), np.zeros(size, bool)
    alone[factor] = True
    other[outer[where].reshape(-1)] = True
    other[0] = False
    both = alone | other
    same = bool((both[inner].any(1) == where).all() and (both[outer].any(1) == where).all())
    return (alone, other, both) if same and not where.all() else None


def _gets_further(trial: Mismatch | None, found: Mismatch) -> bool:
    return trial is None or trial.node > found.node
