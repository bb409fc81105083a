"""What the figures say, in sentences: who is best where, whether the intervals bear it out, what did not get better."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .groups import Group, Mean
from .runs import DENSE, SMALL

CLEAR, UNCLEAR, OPEN, ALONE = "clear", "no clear winner", "one seed", "nothing to compare with"

_SMALL = "a small dense model of equal size"


@dataclass(frozen=True)
class Winner:
    """The best at one sparsity.

    Attributes:
        name: of its line, with its recovery where there are several.
        method: its line alone.
        kind: `CLEAR`; `UNCLEAR`: intervals of `rivals` overlap its own; `OPEN`: without intervals nobody knows.
        rivals: other methods that it cannot be told from.
        alike: the same method with other recoveries, where the intervals overlap.
        beside: how it stands beside the dense model, and beside the small dense one of equal size, where that is known.
    """

    sparsity: float | None
    name: str
    method: str
    mean: Mean
    seeds: int
    kind: str
    rivals: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


def winners(groups: Sequence[Group], names: Sequence[str], metric: str, lower: bool) -> list[Winner]:
    """The best at each sparsity by its mean, and whom its interval overlaps.

    Args:
        groups: of one source.
        names: of the groups.
    """
    named = [(g, n, g.metrics[metric]) for g, n in zip(groups, names, strict=True) if metric in g.metrics]
    pruned = [entry for entry in named if not entry[0].series.reference]
    found = []
    for sparsity in sorted({g.sparsity for g, _, _ in pruned}, key=lambda s: (s is None, s or 0)):
        field = [entry for entry in pruned if entry[0].sparsity == sparsity]
        best, name, mean = (min if lower else max)(field, key=lambda entry: entry[2].mean)
        others = [(n, mean.overlaps(m)) for g, n, m in field if g.series != best.series]
        rivals = tuple(n for n, overlap in others if overlap is not False)
        alike = tuple(n for g, n, m in field if g.series == best.series and n != name and mean.overlaps(m))
        unknown = any(overlap is None for _, overlap in others)
        kind = ALONE if not others else OPEN if unknown else UNCLEAR if rivals else CLEAR
        beside = _beside(mean, sparsity, named, lower)
        found.append(Winner(sparsity, name, best.series.label, mean, len(best.runs), kind, rivals, alike, beside))
    return found


def _beside(
    mean: Mean, sparsity: float | None, named: Sequence[tuple[Group, str, Mean]], lower: bool
) -> tuple[str, ...]:
    """Against the dense model, and against the small one that has the size of this sparsity."""
    said = []
    for group, _, other in named:
        small = group.series.method == SMALL and group.sparsity == sparsity
        overlap = mean.overlaps(other)
        if (small or group.series.method == DENSE) and overlap is not None:
            name = _SMALL if small else "dense"
            order = "worse than" if (mean.mean > other.mean) == lower else "better than"
            said.append(f"{'cannot be told from' if overlap else order} {name}")
    return tuple(said)


def headline(found: Sequence[Winner], metric: str) -> str:
    """The finding in a sentence or two."""
    if not found:
        return "No pruned run has finished yet, so there is nothing to conclude."
    if all(w.kind == OPEN for w in found):
        return f"With one seed there is no interval: the order of the methods by {metric} may be chance."
    alone = f"There is one method, so nothing to compare its {metric} with."
    sentences = [alone] if all(w.kind == ALONE for w in found) else _order(found, metric)
    for order in (f"cannot be told from {_SMALL}", f"is worse than {_SMALL}"):
        places = [percent(w.sparsity) for w in found if order.removeprefix("is ") in w.beside]
        if places:
            sentences.append(f"At {_and(places)} the best pruned model {order}.")
    return " ".join(sentences)


def _order(found: Sequence[Winner], metric: str) -> list[str]:
    clear: dict[str, list[str]] = {}
    for w in found:
        if w.kind == CLEAR:
            clear.setdefault(w.method, []).append(percent(w.sparsity))
    parts = [f"{name} has the best {metric} at {_and(places)}" for name, places in clear.items()]
    sentences = []
    if parts:
        sentences.append(f"{'; '.join(parts)}: no other method's interval reaches it.")
    open_places = [percent(w.sparsity) for w in found if w.kind == UNCLEAR]
    if open_places:
        tied = "At " + _and(open_places) if parts else f"There is no clear winner by {metric}: at {_and(open_places)}"
        sentences.append(f"{tied} the intervals of the best methods overlap{': no clear winner' if parts else ''}.")
    unknown = [percent(w.sparsity) for w in found if w.kind in (OPEN, ALONE)]
    if unknown:
        sentences.append(f"At {_and(unknown)} nothing can be said: too few runs.")
    return sentences


def caveats(groups: Sequence[Group], budget: str) -> list[str]:
    """What an honest reader must know before quoting a figure."""
    said = []
    pruned = [g for g in groups if not g.series.reference]
    dense = next((g for g in groups if g.series.method == DENSE), None)
    ratios = [r.costs["latency_ratio"] for g in pruned for r in g.runs if "latency_ratio" in r.costs]
    full = dense.costs.get("params") if dense is not None else None
    same = full is not None and all(g.costs["params"].mean == full.mean for g in pruned if "params" in g.costs)
    if ratios:
        middle = statistics.median(ratios)
        spread = f"median latency ratio {middle:.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        if same:
            said.append(f"Masked weights are zeros in dense kernels: no model here runs faster for them ({spread}).")
        else:
            said.append(f"Latency against the dense model: {spread}.")
    tuned = {r.tuned for g in pruned for r in g.runs if r.tuned}
    if tuned == {"defaults"}:
        said.append("Every method ran with its paper's settings; none was tuned for this task.")
    elif "given" in tuned:
        given = sorted({g.series.label for g in pruned for r in g.runs if r.tuned == "given"})
        said.append(f"Somebody chose settings for {_and(given[:6])}; the others ran with their papers' settings.")
    if budget == "own":
        said.append("Each method trained for as long as its paper says, so training costs differ: see the runs.")
    elif budget == "equal":
        said.append("Every method trained for the same number of steps, up to one a leg.")
    if len({g.series for g in pruned}) > 2:
        said.append("The best of several is picked after the fact; intervals are not corrected for that.")
    return said


def percent(sparsity: float | None) -> str:
    """0.9 -> "90 %"."""
    return "the structure's own sparsity" if sparsity is None else f"{100 * sparsity:.4g} %"


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
