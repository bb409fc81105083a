r"""q-constrained: of configurations of one cost, those with nearly the best MACs for each parameter.

    q = MACs / parameters,     q* = argmin of a parabola through (log q, error) of a few,     |q / q* - 1| <= width

(He et al., "Network Pruning Spaces", 2023). The best of those that are tried in the refined space is taken.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secateur.core import Budget, Counts, RecipeError, Space, Stats, Target
from secateur.core.progress import report

from .apportion import single_lanes
from .bands import Drawn, drawn, top_units

_DRAWS = 10  # candidates for each that is tried


def best_ratio(ratios: Sequence[float], errors: Sequence[float]) -> float:
    """q*: where a parabola through the errors over log q is lowest, within the ratios that were seen."""
    x, y = np.log(np.asarray(ratios, float)), np.asarray(errors, float)
    if len(np.unique(x.round(9))) < 3:
        return float(np.exp(x[int(y.argmin())]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", np.exceptions.RankWarning)  # nearly equal ratios say little, and that is all
        curve = np.polynomial.Polynomial.fit(x, y, 2).convert()
    c = [*curve.coef, 0.0, 0.0, 0.0][:3]
    ends = [float(x.min()), float(x.max())]
    inside = [-c[1] / (2 * c[2])] if c[2] > 0 and ends[0] < -c[1] / (2 * c[2]) < ends[1] else []
    return float(np.exp(min([*inside, *ends], key=lambda at: float(curve(at)))))


@dataclass(frozen=True)
class QConstrained(Budget):
    """Counts from a search in the pruning space of the target, refined around the best q.

    Attributes:
        ratio: q*; None fits it to samples of the whole space.
        width: how far q may be from q*, as a share of it.
        fit: samples that q* is fitted to.
        samples: that are tried in the refined space; where it is too thin, the nearest to q* stand in.
        least: share of each group that stays at least.
    """

    ratio: float | None = None
    width: float = 0.1
    fit: int = 20
    samples: int = 10
    least: float = 0.1

    def __post_init__(self) -> None:
        fine = self.width > 0 and self.fit >= 3 and self.samples >= 1 and 0 < self.least < 1
        if not fine or (self.ratio is not None and self.ratio <= 0):
            raise RecipeError(
                f"ratio, width, fit, samples, least are {self.ratio}, {self.width}, {self.fit}, {self.samples}, "
                f"{self.least}",
                where="QConstrained(...)",
                mend="ratio and width above 0, 3 samples or more to fit, 1 or more to try, 0 < least < 1",
            )

    @property
    def meets_cost(self) -> bool:
        return True

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        single_lanes(space, "QConstrained()")
        if not target.sparsity:
            return space, {g.name: g.size for g in space}
        if evidence.trial is None:
            raise RecipeError(
                "samples are measured, and there is no task to measure them by",
                where="QConstrained()",
                mend="pass task=sc.Task(train=..., test=...)",
            )
        rng = evidence.rng(next(iter(space)), f"pruning space {evidence.step}")
        total, tried = self.samples + (0 if self.ratio is not None else self.fit), 0

        def one() -> Drawn:
            return drawn(space, target.cost, round(1 - target.sparsity, 12), rng, least=self.least)

        def error(sample: Drawn) -> float:
            nonlocal tried
            tried += 1
            report("pruning space", tried, total)
            assert evidence.trial is not None
            return -evidence.trial(top_units(space, sample.counts, evidence.scores))

        best = self.ratio
        if best is None:
            seen = [one() for _ in range(self.fit)]
            best = best_ratio([s.ratio for s in seen], [error(s) for s in seen])
        candidates = sorted((one() for _ in range(_DRAWS * self.samples)), key=lambda s: abs(s.ratio / best - 1))
        inside = [s for s in candidates if abs(s.ratio / best - 1) <= self.width]
        chosen = (inside or candidates)[: self.samples]  # sorted, so the nearest come first
        return space, min(chosen, key=error).counts
