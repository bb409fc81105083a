"""Everything that the page draws, as one piece of plain data; each value once, figures no longer than they are good."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .embed import Pool, rounded
from .gather import Gathered
from .groups import Group, Mean, Series, groups_of, names_of, series_of
from .masks import matrices
from .runs import COSTS, DENSE, SMALL, Run

_MOST_POINTS = 60_000
_LESS_IS_BETTER = ("loss", "perplexity", "error", "mse", "mae", "rmse", "nll", "wer", "cer", "fid", "bits")
Json = dict[str, Any]


class Tables:
    """Lines, groups and names of what was gathered, computed once and used by the page's data and its sentences."""

    def __init__(self, found: Gathered) -> None:
        self.found = found
        self.groups: list[Group] = groups_of(found.runs)
        self.series: list[Series] = list(dict.fromkeys(map(series_of, found.runs)))
        self.names = names_of(self.series, [s.name for s in found.sources])
        deciding = [s.metric for s in found.sources if s.metric]
        self.metrics = list(dict.fromkeys([*deciding, *(m for r in found.runs for m in r.metrics)]))
        self.recoveries = list(dict.fromkeys(r.recovery for r in found.runs if not series_of(r).reference))
        self.costs = [key for key in COSTS if any(key in r.costs for r in found.runs)]

    def lower(self, metric: str) -> bool:
        """Whether less is better: as the comparisons say, or by its name."""
        for source in self.found.sources:
            if source.metric == metric and source.protocol:
                return source.lower
        said = [source.lower_is_better for source in self.found.sources if source.lower_is_better is not None]
        if said:
            return any(metric in names for names in said)
        return any(word in metric.lower() for word in _LESS_IS_BETTER)

    def name(self, group: Group) -> str:
        """A line's name, with the recovery where there are several."""
        name = self.names[self.series.index(group.series)]
        return f"{name} + {group.recovery}" if len(self.recoveries) > 1 and not group.series.reference else name


def page_data(tables: Tables, page: Path) -> tuple[Json, list[str]]:
    """The data, and notices of masks that could not be read.

    Args:
        page: where the report will lie; links to runs are relative to it.
    """
    found, texts = tables.found, Pool()
    runs = found.runs
    overlap, notices = matrices(tables.groups)
    recoveries = list(dict.fromkeys([*tables.recoveries, *(r.recovery for r in runs)]))
    place = {id(r): i for i, r in enumerate(runs)}
    points = max(20, _MOST_POINTS // max(1, sum(r.curve is not None for r in runs)))
    return {
        "metrics": [{"name": m, "lower": tables.lower(m)} for m in tables.metrics],
        "costs": [{"key": k, "name": COSTS[k][0], "unit": COSTS[k][1]} for k in tables.costs],
        "recoveries": recoveries,
        "choices": len(tables.recoveries),
        "sources": [s.name for s in found.sources],
        "series": [
            {"name": n, "method": s.method, "kind": _kind(s), "structure": s.structure, "source": s.source}
            for s, n in zip(tables.series, tables.names, strict=True)
        ],
        "runs": [_run(r, tables, recoveries, texts, page, points) for r in runs],
        "groups": [
            {
                "s": tables.series.index(g.series),
                "p": g.sparsity,
                "r": recoveries.index(g.recovery),
                "runs": [place[id(r)] for r in g.runs],
                "m": [_mean(g.metrics.get(m)) for m in tables.metrics],
                "c": [rounded(c.mean, 6) if (c := g.costs.get(k)) else None for k in tables.costs],
            }
            for g in tables.groups
        ],
        "layers": _layers(tables.groups),
        "overlap": [
            {
                "p": m.sparsity,
                "r": recoveries.index(m.recovery),
                "groups": m.groups,
                "iou": [[rounded(v) for v in row] for row in m.iou],
                "chance": [[rounded(v) for v in row] for row in m.chance],
                "seeds": m.seeds,
                "of": m.of,
            }
            for m in overlap
        ],
        "texts": texts.values,
    }, notices


def _kind(series: Series) -> str:
    return {DENSE: "dense", SMALL: "small"}.get(series.method, "pruned")


def _mean(mean: Mean | None) -> list[float | None] | None:
    return None if mean is None else [rounded(v, 5) for v in (mean.mean, mean.low, mean.high)]


def _run(run: Run, tables: Tables, recoveries: Sequence[str], texts: Pool, page: Path, points: int) -> Json:
    return {
        "name": run.name,
        "s": tables.series.index(series_of(run)),
        "p": run.sparsity,
        "r": recoveries.index(run.recovery),
        "seed": run.seed,
        "m": [rounded(run.metrics.get(m), 6) for m in tables.metrics],
        "c": [rounded(run.costs.get(k), 10) for k in tables.costs],
        "f": {k: rounded(v, 6) for k, v in run.facts.items()},
        "tuned": run.tuned,
        "error": run.error,
        "cmd": run.command,
        "link": _link(run.folder, page),
        "about": {k: texts.index(v) for k, v in run.about.items() if v},
        "curve": _curve(run, texts, points),
    }


def _link(folder: Path | None, page: Path) -> str | None:
    """Relative, and never more than a path: the leading dot keeps a name such as `javascript:x` from being a scheme."""
    if folder is None:
        return None
    try:
        return "./" + quote(Path(os.path.relpath(folder.absolute(), page.absolute().parent)).as_posix()) + "/"
    except (ValueError, OSError):  # another drive
        return None


def _curve(run: Run, texts: Pool, most: int) -> list[Any] | None:
    if run.curve is None:
        return None
    steps, losses = run.curve
    every = -(-len(steps) // most)
    at = sorted({*range(0, len(steps), every), len(steps) - 1})
    return [texts.index([rounded(steps[i], 9) for i in at]), [rounded(losses[i]) for i in at]]


def _layers(groups: Sequence[Group]) -> Json:
    """Mean share removed by group of runs and layer; the layers of all runs in the order of the networks."""
    names: list[str] = []
    for layers in dict.fromkeys(tuple(r.layers) for g in groups for r in g.runs):
        _merge(names, layers)
    rows = []
    for i, group in enumerate(groups):
        known = [r.layers for r in group.runs if r.layers]
        if known and not group.series.reference:
            mean = [_average([layers[n] for layers in known if n in layers]) for n in names]
            rows.append({"g": i, "v": [rounded(v) for v in mean]})
    return {"names": names, "rows": rows}


def _merge(names: list[str], more: Sequence[str]) -> None:
    """Put each new name behind the one it follows."""
    at = 0
    for name in more:
        if name in names:
            at = names.index(name) + 1
        else:
            names.insert(at, name)
            at += 1


def _average(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
