r"""Gradual pruning during training (Zhu & Gupta, "To prune, or not to prune", 2017, equation 1).

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3        for t in {t0, t0 + dt, ..., t0 + n dt}

The cube prunes fast while there is much to spare, and slowly near the end. Power 1 is the linear ramp.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from secateur.core import Clock, Kind, Move, Point, RecipeError, Schedule, Target


def ramp(part: float, initial: float, final: float, power: float = 3.0) -> float:
    """The sparsity after `part` of the ramp, clamped to [0, 1]: `initial` at 0, `final` at 1."""
    part = min(max(part, 0.0), 1.0)
    return float(final + (initial - final) * (1 - part) ** power)


@dataclass(frozen=True)
class _Span:
    begin: int
    end: int
    every: int


def _span(clock: Clock, begin: Point, end: Point, every: Point, where: str) -> _Span:
    return _Span(clock.at(begin, where=where), clock.at(end, where=where), max(clock.at(every, where=where), 1))


def _moves(span: _Span, clock: Clock, initial: float, target: Target, power: float) -> Iterable[Move]:
    """At begin, begin + every, ..., and at the end, whether or not `every` divides the way there."""
    after = clock.step - span.begin
    if clock.step == span.end or (0 <= after < span.end - span.begin and after % span.every == 0):
        part = after / (span.end - span.begin) if span.end > span.begin else 1.0
        sparsity = ramp(part, min(initial, target.sparsity), target.sparsity, power)
        if sparsity > 0:
            yield Move(Kind.PRUNE, sparsity)


def _check(span: _Span, clock: Clock, initial: float, every: Point, target: Target, where: str) -> None:
    faults = {
        f"it begins at step {span.begin} and ends at {span.end}": not 0 <= span.begin <= span.end,
        f"it ends at step {span.end}, beyond the training's {clock.total}": span.end > clock.total,
        # as written: a share or an epoch's part that is shorter than a step prunes at every step
        f"every is {every!r}": not float(str(every).split()[0]) > 0,
        f"it starts at a sparsity of {initial} and ends at {target.sparsity}": not 0 <= initial <= target.sparsity,
    }
    for what, wrong in faults.items():
        if wrong:
            raise RecipeError(what, where=where, mend="0 <= begin <= end <= training, every > 0, initial <= sparsity")


@dataclass(frozen=True)
class CubicGradual(Schedule):
    """Sparsity rises along a cubic ramp.

    Attributes:
        begin, end: of the ramp: steps, shares of the training, or "2 epochs".
        every: time between two prunings, likewise.
        initial: sparsity at the beginning.
    """

    begin: Point = 0.0
    end: Point = 0.7
    every: Point = 0.01
    initial: float = 0.0

    def moves(self, clock: Clock, target: Target) -> Iterable[Move]:
        return _moves(self._span(clock), clock, self.initial, target, 3.0)

    def check(self, clock: Clock, target: Target) -> None:
        _check(self._span(clock), clock, self.initial, self.every, target, "CubicGradual")

    def _span(self, clock: Clock) -> _Span:
        return _span(clock, self.begin, self.end, self.every, "CubicGradual")


@dataclass(frozen=True)
class LinearGradual(Schedule):
    """Sparsity rises along a straight line; attributes as of `CubicGradual`."""

    begin: Point = 0.0
    end: Point = 0.7
    every: Point = 0.01
    initial: float = 0.0

    def moves(self, clock: Clock, target: Target) -> Iterable[Move]:
        return _moves(self._span(clock), clock, self.initial, target, 1.0)

    def check(self, clock: Clock, target: Target) -> None:
        _check(self._span(clock), clock, self.initial, self.every, target, "LinearGradual")

    def _span(self, clock: Clock) -> _Span:
        return _span(clock, self.begin, self.end, self.every, "LinearGradual")
