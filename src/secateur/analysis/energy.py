"""Energy of a piece of work, as codecarbon has it, and of one against another in interleaved pairs.

What is behind the figures depends on the machine. With the processor's counters (RAPL) and with NVIDIA's, codecarbon
reads joules, of the whole chip, whoever else works on it. Without counters it multiplies: for the processor the watts
that its maker names (a guess for one that codecarbon does not know) by this process's load and the time, for the memory
a fixed number of watts by the time on the wall. Then a smaller model saves what it saves of time, and nothing else is
learnt. `Energy.cpu` tells which it was.
"""

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from secateur.core import NumericsError, RecipeError, require

Work = Callable[[], object]
Source = Literal["counters", "estimate", "unknown"]
_COUNTED = frozenset({"intel_rapl", "intel_power_gadget", "windows_emi"})
_ESTIMATED = frozenset({"cpu_load", "constant"})


@dataclass(frozen=True)
class Energy:
    """What a piece of work took.

    Attributes:
        kwh: of all parts together; `cpu_kwh`, `gpu_kwh`, `ram_kwh` are the parts.
        co2_kg: of the country's electricity on the average; it is `kwh` times a constant.
        seconds: of the clock on the wall.
        cpu_seconds: of this process.
        cpu: where the processor's share comes from: "counters", or an "estimate" of watts times load times time.
    """

    kwh: float
    cpu_kwh: float
    gpu_kwh: float
    ram_kwh: float
    co2_kg: float
    seconds: float
    cpu_seconds: float
    cpu: Source


@dataclass(frozen=True)
class EnergyComparison:
    """Medians over pairs: each `ratio` is the second's over the first's, below 1 = less.

    Attributes:
        ratio: of the energy of all parts.
        cpu_ratio: of the processor's.
        time_ratio: of CPU seconds, which is all that an estimate rests on.
        first, second: of every pair.
    """

    ratio: float
    cpu_ratio: float
    time_ratio: float
    first: tuple[Energy, ...]
    second: tuple[Energy, ...]

    @property
    def pairs(self) -> int:
        """How many pairs there were."""
        return len(self.first)


def measure_energy(work: Work, *, country: str, every_s: float = 1.0) -> Energy:
    """Run `work` once under codecarbon's offline tracker, which asks no server.

    Args:
        country: three letters, such as "FRA", whose mix of electricity the CO2 is that of.
        every_s: seconds between two readings; work that is shorter is read once, at its end.

    Raises:
        MissingExtra: codecarbon is not installed.
        RecipeError: no such country.
        NumericsError: it came to nothing, because the work is too short to be read.
    """
    tracker = _tracker(country, every_s)
    begun = time.process_time()
    with _quiet():
        tracker.start()
        try:
            work()
        finally:
            cpu_seconds = time.process_time() - begun
            tracker.stop()
    told = tracker.final_emissions_data
    if not told.energy_consumed > 0:
        raise NumericsError(
            f"the energy is {told.energy_consumed} kWh", where="measure_energy(work)", mend="give it more work to do"
        )
    return Energy(
        kwh=told.energy_consumed,
        cpu_kwh=told.cpu_energy,
        gpu_kwh=told.gpu_energy,
        ram_kwh=told.ram_energy,
        co2_kg=told.emissions,
        seconds=told.duration,
        cpu_seconds=cpu_seconds,
        cpu=_source(tracker),
    )


def compare_energy(
    first: Work, second: Work, *, country: str, pairs: int = 3, every_s: float = 1.0
) -> EnergyComparison:
    """Both pieces of work back to back, `pairs` times, after one unmeasured run of each.

    Args:
        first, second: each call does the same amount again.
        country, every_s: as for `measure_energy`.
    """
    if pairs < 1:
        raise RecipeError(f"pairs is {pairs}", where="compare_energy(pairs=...)", mend="1 or more")
    _tracker(country, every_s)  # says what is wrong before any work
    first()
    second()
    once = partial(measure_energy, country=country, every_s=every_s)
    found = [(once(first), once(second)) for _ in range(pairs)]

    def ratio(of: Callable[[Energy], float]) -> float:
        return statistics.median(of(b) / max(of(a), 1e-30) for a, b in found)

    return EnergyComparison(
        ratio=ratio(lambda e: e.kwh),
        cpu_ratio=ratio(lambda e: e.cpu_kwh),
        time_ratio=ratio(lambda e: e.cpu_seconds),
        first=tuple(a for a, _ in found),
        second=tuple(b for _, b in found),
    )


def _tracker(country: str, every_s: float) -> Any:
    """An offline tracker that writes nothing."""
    require("codecarbon", extra="analysis", where="measuring energy")
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.input import DataSource

    with _quiet():  # the import itself sets up a logger that tells everything
        source: Any = DataSource
        known = source().get_global_energy_mix_data()
        if country not in known:
            raise RecipeError(
                f"codecarbon knows no country {country!r}",
                where="country=...",
                mend='its three letters in ISO 3166, such as "FRA" or "USA"',
            )
        return OfflineEmissionsTracker(
            country_iso_code=country,
            measure_power_secs=every_s,
            tracking_mode="process",
            save_to_file=False,
            allow_multiple_runs=True,
            log_level="error",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """codecarbon configures a logger of its own and tells it what it finds; errors still come through."""
    log = logging.getLogger("codecarbon")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _source(tracker: object) -> Source:
    """Whether the processor was read or reckoned; codecarbon tells it by a private attribute alone."""
    modes = {getattr(part, "_mode", None) for part in getattr(tracker, "_hardware", ())} - {None}
    if modes & _COUNTED:
        return "counters"
    return "estimate" if modes & _ESTIMATED else "unknown"
