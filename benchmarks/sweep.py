"""What a sweep costs over the sum of its runs: bookkeeping, isolation, measuring, saving.

The runs by themselves: the dense models trained, then `sc.prune` with its healing and `Result.save`, one after the
other in one process, with the same data, seeds and lengths. The sweep: `sc.compare` over the same cells, in the same
process (`workers=1`), and as the whole command with two worker processes: interpreter starts, imports, report and the
final check in a fresh process included. Processor time of all processes.
"""

import copy
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import secateur as sc
from harness import cpu_s, parser, tell
from secateur.engine.rng import seeded
from secateur.engine.training import Device, train_

MODEL, TASK = "builtin:digits-cnn", "builtin:digits"
METHODS, SPARSITIES, HEAL = ["magnitude", "global-mp", "lamp", "gmp"], [0.8, 0.9], 3.0


def plain(folder: Path, seeds: list[int]) -> None:
    """The runs by themselves."""
    for seed in seeds:
        task = sc.tasks.builtin_task("digits").fork(seed)
        with seeded(seed):
            dense = sc.tasks.builtin_model("digits-cnn")
        train_(dense, task, seed=seed, device=Device())
        for method in METHODS:
            for sparsity in SPARSITIES:
                result = sc.prune(copy.deepcopy(dense), method, sparsity=sparsity, task=task, heal=HEAL, seed=seed)
                result.save(folder / f"{method}-{sparsity}-{seed}")


def sweep(folder: Path, seeds: list[int]) -> None:
    """The same cells by `sc.compare`, in this process."""
    found = sc.compare(MODEL, METHODS, sparsity=SPARSITIES, task=TASK, seeds=seeds, heal=HEAL, folder=folder)
    assert not found.failed


def command(folder: Path, seeds: list[int]) -> float:
    """Processor time of the whole command with two workers, in seconds."""
    words = ["compare", MODEL, "-t", TASK, "-m", ",".join(METHODS), "-s", ",".join(map(str, SPARSITIES)), "-w", "2"]
    words += ["--heal", str(HEAL), "-o", str(folder), *(w for seed in seeds for w in ("--seed", str(seed)))]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "secateur", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=5)
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    seeds = list(range(given.seeds))
    times: dict[str, list[float]] = {"runs": [], "sweep": [], "command": []}
    with tempfile.TemporaryDirectory() as place:
        plain(Path(place) / "warm", [0])
        for pair in range(given.pairs):
            here = Path(place) / str(pair)
            here.mkdir()
            sides = [("runs", plain), ("sweep", sweep)]
            for name, side in sides[:: 1 if pair % 2 else -1]:
                times[name].append(cpu_s(side, here / name, seeds))
            times["command"].append(command(here / "command", seeds))
    figures: dict[str, Any] = {"cells": given.seeds * (1 + len(METHODS) * len(SPARSITIES)), "pairs": given.pairs}
    for name, values in times.items():
        figures[f"{name}_s"] = statistics.median(values)
    for name in ("sweep", "command"):
        ratios = [a / b for a, b in zip(times[name], times["runs"], strict=True)]
        figures[f"{name}_over_runs"] = statistics.median(ratios)
        figures[f"{name}_over_runs_all"] = sorted(ratios)
    tell("sweep", figures, given.json)


if __name__ == "__main__":
    main()
