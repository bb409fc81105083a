"""What a claim expects, and whether paired figures bear it out. Pure functions of numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from secateur.analysis import mean_interval
from secateur.core import NumericsError, RecipeError

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"


@dataclass(frozen=True)
class Expect:
    """Which metric decides, on which side of `by` its paired difference should lie.

    Attributes:
        kind: "higher" or "lower" (the method's metric, by more than `by`), or "within" (it differs by less than `by`).
        metric: its name among the measures.
        by: in the metric's own unit, or as a share of the other side's value if `relative`.
        relative: whether differences are divided by the other side's value.
    """

    kind: Literal["higher", "lower", "within"]
    metric: str
    by: float = 0.0
    relative: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("higher", "lower", "within"):
            raise RecipeError(f"a claim cannot expect {self.kind!r}", where="Expect", mend="higher, lower or within")
        if not math.isfinite(self.by) or (self.kind == "within" and self.by <= 0):
            raise RecipeError(f"by is {self.by}", where=f"{self.kind}({self.metric!r})", mend="a finite number")

    def difference(self, method: float, against: float) -> float:
        """The advantage of the method: positive where it is better in the expected direction."""
        if not (math.isfinite(method) and math.isfinite(against)):
            raise NumericsError(
                f"{self.metric} is {method} and {against}", where="a claim's figures", mend="look at that seed's run"
            )
        gain = against - method if self.kind == "lower" else method - against
        if not self.relative:
            return gain
        if against == 0:
            raise NumericsError(
                f"a relative difference of {self.metric} to 0", where="a claim's figures", mend="use relative=False"
            )
        return gain / abs(against)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def higher(metric: str, by: float = 0.0, relative: bool = False) -> Expect:
    """The method's metric is higher, by more than `by`; a negative `by` allows it to be that much lower."""
    return Expect("higher", metric, by, relative)


def lower(metric: str, by: float = 0.0, relative: bool = False) -> Expect:
    """The method's metric is lower, by more than `by`; a negative `by` allows it to be that much higher."""
    return Expect("lower", metric, by, relative)


def within(metric: str, by: float, relative: bool = False) -> Expect:
    """The method's metric differs by less than `by`, whichever way."""
    return Expect("within", metric, by, relative)


@dataclass(frozen=True)
class Judgement:
    """Paired differences over seeds, their mean and 95 % interval, and what follows."""

    differences: tuple[float, ...]
    mean: float
    low: float
    high: float
    verdict: str


def t_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean; one number is its own interval, as exact claims have one."""
    return mean_interval(differences, confidence) or (differences[0], differences[0])


def verdict(expect: Expect, low: float, high: float) -> str:
    """Holds where the whole interval lies on the claimed side of `by`; does not hold where it lies on the other."""
    if expect.kind == "within":
        inside, outside = -expect.by < low and high < expect.by, low >= expect.by or high <= -expect.by
    else:
        inside, outside = low > expect.by, high <= expect.by
    return HOLDS if inside else FAILS if outside else UNDECIDED


def judge(expect: Expect, pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]) -> Judgement:
    """The verdict on pairs of measures, one (method, against) per seed.

    Raises:
        RecipeError: there is no pair, or a measure lacks the metric.
        NumericsError: a figure is not finite.
    """
    if not pairs:
        raise RecipeError("there are no figures to judge", where="a claim", mend="run at least one seed")
    differences = tuple(expect.difference(_figure(a, expect), _figure(b, expect)) for a, b in pairs)
    low, high = t_interval(differences)
    mean = math.fsum(differences) / len(differences)
    return Judgement(differences, mean, low, high, verdict(expect, low, high))


def _figure(measures: Mapping[str, float], expect: Expect) -> float:
    if expect.metric not in measures:
        raise RecipeError(
            f"the measures lack {expect.metric!r}",
            where="a claim's function",
            mend=f"it gave {', '.join(sorted(measures)) or 'nothing'}",
        )
    return measures[expect.metric]
