"""What a comparison found: rows, and what they say together."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secateur.analysis import mean_interval

from .cells import DENSE, SMALL

Json = dict[str, Any]
BASELINES = (DENSE, SMALL)
_MEANS = ("params", "nonzero", "macs", "macs_nonzero", "bytes_on_disk", "train_steps", "train_steps_before")


@dataclass
class Comparison:
    """What a comparison found.

    Attributes:
        rows: one for each cell; a failed cell has an `error`.
        folder: where the cells lie.
        metric: the one that tables show; `lower` says whether less of it is better.
        protocol: what was the same for all.
        left_out: combinations that make no sense, with the reason.
    """

    rows: list[Json]
    folder: Path
    metric: str
    lower: bool = False
    protocol: Json = field(default_factory=dict)
    left_out: list[Json] = field(default_factory=list)

    @property
    def failed(self) -> list[Json]:
        """Rows of cells that did not end well."""
        return [r for r in self.rows if "error" in r]

    @property
    def best(self) -> Json | None:
        """The pruned cell with the best metric; of equals the sparser one, then the first seed."""
        good = [r for r in self.rows if "error" not in r and r["method"] not in BASELINES]
        sign = -1 if self.lower else 1
        return max(good, key=lambda r: (sign * r["metrics"][self.metric], r["sparsity"] or 0, -r["seed"]), default=None)

    def summary(self) -> list[Json]:
        """One row for each method, target and recovery.

        Returns:
            `mean`, `std` and the 95 % interval `low` to `high` of the metric over seeds (None for one seed); `change`
            with `change_low` and `change_high`, the same for the difference to the dense model of the same seed;
            means of the costs.
        """
        dense = {r["seed"]: r["metrics"][self.metric] for r in self.rows if r["method"] == DENSE and "error" not in r}
        groups: dict[tuple[Any, ...], list[Json]] = {}
        for row in self.rows:
            groups.setdefault((row["label"], row["sparsity"], row["recovery"]), []).append(row)
        return [self._summed(rows, dense) for rows in groups.values()]

    def _summed(self, rows: Sequence[Json], dense: dict[int, float]) -> Json:
        good = [r for r in rows if "error" not in r]
        told = {key: rows[0][key] for key in ("method", "label", "tuned", "sparsity", "recovery")}
        found: Json = {**told, "seeds": len(good), "failed": len(rows) - len(good)}
        if not good:
            return found
        values = [r["metrics"][self.metric] for r in good]
        changes = [r["metrics"][self.metric] - dense[r["seed"]] for r in good if r["seed"] in dense]
        found["mean"], found["std"] = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        found["low"], found["high"] = mean_interval(values) or (None, None)
        found["change"] = statistics.mean(changes) if changes else None
        found["change_low"], found["change_high"] = mean_interval(changes) or (None, None)
        for name in _MEANS:
            found[name] = statistics.mean(r[name] or 0 for r in good)
        found["train_macs"] = statistics.mean(r["train_macs"] + r["train_macs_before"] for r in good)
        found["latency_ratio"] = statistics.median(r["latency_ratio"] for r in good)
        return found
