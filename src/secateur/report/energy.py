"""What a comparison of energy says, in lines."""

from collections.abc import Sequence
from statistics import median

from secateur.analysis import Energy, EnergyComparison

_BEHIND = {
    "counters": "the processor's share is read from its counters, which count whoever else works on it, too",
    "estimate": "no counters here: the processor's share is assumed watts times load times time, the memory's "
    "assumed watts times time; trust the ratio of times",
    "unknown": "codecarbon does not tell where the processor's share comes from",
}


def energy_text(found: EnergyComparison, names: Sequence[str]) -> str:
    """Ratios, medians of both sides, and what is behind them.

    Args:
        names: of the first and the second.
    """
    return "\n".join(
        [
            f"energy     {found.ratio:.3f} of the first's, median of {found.pairs} pairs",
            f"processor  {found.cpu_ratio:.3f}",
            f"CPU time   {found.time_ratio:.3f}",
            *(_line(name, side) for name, side in zip(names, (found.first, found.second), strict=True)),
            f"behind it  {_BEHIND[found.first[0].cpu]}",
        ]
    )


def _line(name: str, side: Sequence[Energy]) -> str:
    joules = median(e.kwh for e in side) * 3.6e6
    grams = median(e.co2_kg for e in side) * 1e3
    return f"           {joules:.3g} J, {grams:.2g} g CO2, {median(e.cpu_seconds for e in side):.3g} s of CPU: {name}"
