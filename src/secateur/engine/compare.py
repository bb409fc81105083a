"""`sc.compare`: methods x targets x seeds on one model and task, under one protocol, in resumable cells."""

import itertools
import json
import logging
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur._version import __version__
from secateur.core import RecipeError, Target, Task, registry
from secateur.core.progress import report
from secateur.scale import run_jobs

from .cells import DENSE, Bench, bench_from, copy_result, dense_config, run_cell
from .sources import content_of
from .tensors import tensor_hash, write_atomically

_log = logging.getLogger(__name__)
Json = dict[str, Any]


@dataclass
class Comparison:
    """What a comparison found.

    Attributes:
        rows: one for each cell; a failed cell has an `error`.
        folder: where the cells lie.
        metric: the one that tables show; `lower` says whether less of it is better.
    """

    rows: list[Json]
    folder: Path
    metric: str
    lower: bool = False

    @property
    def failed(self) -> list[Json]:
        """Rows of cells that did not end well."""
        return [r for r in self.rows if "error" in r]

    @property
    def best(self) -> Json | None:
        """The pruned cell with the best metric; of equals the sparser one, then the first seed."""
        good = [r for r in self.rows if "error" not in r and r["method"] != DENSE]
        sign = -1 if self.lower else 1
        return max(good, key=lambda r: (sign * r["metrics"][self.metric], r["sparsity"], -r["seed"]), default=None)

    def summary(self) -> list[Json]:
        """One row for each method and target: mean and standard deviation over seeds of every measure."""
        out = []
        key = ("method", "sparsity")
        for (method, sparsity), group in itertools.groupby(self.rows, key=lambda r: tuple(r[k] for k in key)):
            rows = list(group)
            good = [r for r in rows if "error" not in r]
            entry: Json = {"method": method, "sparsity": sparsity, "seeds": len(good), "failed": len(rows) - len(good)}
            if good:
                values = [r["metrics"][self.metric] for r in good]
                entry["mean"], entry["std"] = statistics.mean(values), _std(values)
                for name in ("params", "nonzero", "macs", "macs_nonzero", "bytes_on_disk", "train_steps"):
                    entry[name] = statistics.mean(r[name] or 0 for r in good)
                entry["latency_ratio"] = statistics.median(r["latency_ratio"] for r in good)
            out.append(entry)
        return out


def _std(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def compare(
    model: str | nn.Module,
    methods: Sequence[str | Mapping[str, Mapping[str, Any]]],
    *,
    sparsity: Sequence[float | None] | float | None,
    task: str | Task,
    seeds: int | Sequence[int] = 3,
    heal: float | None = None,
    structure: str | None = None,
    train: bool | None = None,
    folder: str | Path = "runs/compare",
    workers: int = 1,
    device: str | None = None,
) -> Comparison:
    """Compare methods on your model and task.

    The protocol is the same for all: the same data order for the same seed, the same length of every leg of training
    (`heal` epochs), the same starting weights; how many steps each method trained stands in its row. Methods that
    need an untrained model get the initialisation of the same seed.

    Args:
        model: a module (trained, unless `train=True`), or a name as on the command line.
        methods: ids, or `{id: settings}`.
        sparsity: one or several targets; None for structures that imply one.
        task: a task, or its name.
        seeds: how many, or which.
        heal: epochs in each leg; by default a third of the task's training.
        structure: instead of the methods' own, as a text: "2:4".
        train: whether the model must be trained first; by default only `builtin:` models are.
        folder: where cells are kept; the same call goes on with what is missing.
        workers: processes; more than one needs model and task as names.
        device: "cpu" or "cuda".

    Raises:
        RecipeError: the comparison makes no sense. Errors of single cells become rows instead.
    """
    named = isinstance(model, str) and isinstance(task, str)
    if workers > 1 and not named:
        raise RecipeError(
            "objects of this process cannot go to other processes without pickle",
            where="compare(workers=...)",
            mend="name the model and the task as on the command line, or use workers=1",
        )
    bench = bench_from(model, task, train)
    goal = bench.task
    legs = heal if heal is not None else max(1.0, round(bench.task.training.epochs / 3))
    shared: Json = {
        "model": model if isinstance(model, str) else f"{type(model).__name__}-{tensor_hash(model.state_dict())[:12]}",
        "task": task if isinstance(task, str) else task.name,
        "train": train,
        "structure": structure,
        "heal": legs,
        "device": device,
        "content": [content_of(s) for s in (model, task) if isinstance(s, str)],
        "training": [repr(goal.training), goal.batch_size, goal.epoch_steps()],
        "version": [__version__, torch.__version__],
    }
    configs = _configs(shared, methods, _targets(sparsity), _seeds(seeds))
    cells = Path(folder) / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    rows = _run(configs, cells, bench, workers if named else 1)
    first = next(iter(bench.task.metrics), "loss")
    found = Comparison(rows, Path(folder), first, first in bench.task.lower_is_better)
    write_atomically(Path(folder) / "results.json", json.dumps({"metric": first, "rows": rows}, indent=1).encode())
    if found.best is not None:
        copy_result(cells, found.best, Path(folder) / "best")
    return found


def _targets(sparsity: Sequence[float | None] | float | None) -> list[float | None]:
    targets = list(sparsity) if isinstance(sparsity, Sequence) else [sparsity]
    for target in targets:
        if target is not None:
            Target(target)
    return targets


def _seeds(seeds: int | Sequence[int]) -> list[int]:
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not chosen:
        raise RecipeError("there is no seed", where="compare(seeds=...)", mend="1 or more")
    return chosen


def _configs(
    shared: Json,
    methods: Sequence[str | Mapping[str, Mapping[str, Any]]],
    targets: Sequence[float | None],
    seeds: Sequence[int],
) -> list[Json]:
    """Every cell: the dense ones first, because all others start from them."""
    chosen: list[tuple[str, Json]] = []
    for method in methods:
        pairs = {method: {}} if isinstance(method, str) else {k: dict(v) for k, v in method.items()}
        chosen += pairs.items()
    for id, settings in chosen:
        registry.get(id).recipe(**settings)  # a wrong name or setting fails before any work
    if not chosen:
        raise RecipeError("there is no method", where="compare(methods=...)", mend="`secateur methods` lists them")
    pruned = [
        {**shared, "method": id, "settings": settings, "sparsity": target, "seed": seed}
        for (id, settings), target, seed in itertools.product(chosen, targets, seeds)
    ]
    return [dense_config({**pruned[0], "seed": seed}) for seed in seeds] + pruned


def _run(configs: list[Json], cells: Path, bench: Bench, workers: int) -> list[Json]:
    rows: dict[int, Json] = {}

    def done(index: int, row: Json) -> None:
        label = {k: configs[index][k] for k in ("method", "settings", "sparsity", "seed", "structure")}
        rows[index] = {**label, **row}
        report(f"{row.get('method', '')} {row.get('sparsity', '')}", len(rows), len(configs))

    dense = [i for i, c in enumerate(configs) if c["method"] == DENSE]
    for part in (dense, [i for i in range(len(configs)) if i not in dense]):
        if workers == 1:
            for index in part:
                done(index, run_cell(configs[index], cells, bench))
            continue
        jobs = [{"config": configs[i], "cells": str(cells)} for i in part]
        command = [sys.executable, "-m", "secateur.engine.worker"]

        def answered(at: int, row: Json, part: list[int] = part) -> None:
            done(part[at], row)

        run_jobs(command, jobs, workers, answered, environment=_ONE_THREAD)
    return [rows[i] for i in range(len(configs))]


# two torch threads in each of several processes are slower than one
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
