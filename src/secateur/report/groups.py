"""Runs that differ only by their seed, as one: means and intervals; and which of them belong to one line."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from secateur.analysis import mean_interval

from .runs import DENSE, SMALL, Run


@dataclass(frozen=True)
class Mean:
    """A mean over seeds; `low` and `high` bound the 95 % interval, None where one seed leaves it open."""

    mean: float
    low: float | None = None
    high: float | None = None

    def overlaps(self, other: "Mean") -> bool | None:
        """Whether the intervals have a point in common; None where one is not known."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low <= other.high and other.low <= self.high


def mean_of(values: Iterable[float | None]) -> Mean | None:
    """The mean of the known values; None where there is none."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    low, high = mean_interval(known) or (None, None)
    return Mean(math.fsum(known) / len(known), low, high)


@dataclass(frozen=True)
class Series:
    """A line of the plot: a method with its settings and structure, of one source."""

    source: int
    method: str
    label: str
    structure: str

    @property
    def reference(self) -> bool:
        """Whether it is no pruning but what pruning is measured against."""
        return self.method in (DENSE, SMALL)


@dataclass(frozen=True)
class Group:
    """Runs of one series, target and recovery, one for each seed; only those that ended well."""

    series: Series
    sparsity: float | None
    recovery: str
    runs: tuple[Run, ...]

    @cached_property
    def metrics(self) -> dict[str, Mean]:
        """By name."""
        return _means([r.metrics for r in self.runs])

    @cached_property
    def costs(self) -> dict[str, Mean]:
        """By key of `COSTS`."""
        return _means([r.costs for r in self.runs])


def series_of(run: Run) -> Series:
    """The line that a run belongs to."""
    return Series(run.source, run.method, run.label, run.structure)


def groups_of(runs: Iterable[Run]) -> list[Group]:
    """All groups, in the order in which their first runs come."""
    found: dict[tuple[Series, float | None, str], list[Run]] = {}
    for run in runs:
        if not run.error:
            found.setdefault((series_of(run), run.sparsity, run.recovery), []).append(run)
    return [Group(series, sparsity, recovery, tuple(rs)) for (series, sparsity, recovery), rs in found.items()]


def names_of(series: Sequence[Series], sources: Sequence[str]) -> list[str]:
    """What to call each line: its label, and of source and structure only what is needed to tell lines apart."""
    names = [s.label for s in series]
    places = [sources[s.source] if len(sources) > 1 else "" for s in series]
    for more in (places, [s.structure for s in series], [f"no. {i + 1}" for i in range(len(series))]):
        count = Counter(names)
        names = [f"{n} · {m}" if count[n] > 1 and m else n for n, m in zip(names, more, strict=True)]
    return names


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, Mean]:
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: mean_of(row.get(name) for row in rows) for name in names}
    return {name: mean for name, mean in found.items() if mean is not None}
