"""Runs the cells of a comparison: here, in processes of this machine, or on a Ray cluster. The rows are the same."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from secateur.core import RecipeError
from secateur.core.progress import report
from secateur.scale import run_jobs, run_ray_jobs

from .bench import Bench
from .cells import DENSE, cell_name, failed, run_cell, stored_row

Json = dict[str, Any]
Engine = Literal["processes", "ray"]
_WORKER = "secateur.engine.worker"
# two torch threads in each of several processes are slower than one
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def check_engine(engine: str, workers: int, named: bool) -> None:
    """Raise `RecipeError` where the cells could not run there."""
    if engine not in ("processes", "ray"):
        raise RecipeError(f"there is no engine {engine!r}", where="compare(engine=...)", mend='"processes" or "ray"')
    if workers < 1:
        raise RecipeError(f"workers is {workers}", where="compare(workers=...)", mend="1 or more")
    if not named and (workers > 1 or engine == "ray"):
        raise RecipeError(
            "objects of this process cannot go to other processes without pickle",
            where="compare(workers=..., engine=...)",
            mend="name the model and the task as on the command line, or use workers=1",
        )


def run_cells(
    configs: list[Json], cells: Path, bench: Bench, names: Mapping[str, Any] | None, workers: int, engine: Engine
) -> list[Json]:
    """The rows of all cells, in order; each starts when the dense model of its seed is there.

    Args:
        configs: the dense cells stand before those that start from them.
        names: what another process makes the bench from; None where only this process can.
    """
    rows: dict[int, Json] = {}

    def done(index: int, row: Json) -> None:
        rows[index] = row
        report(f"{row['label']} {row['sparsity'] if row['sparsity'] is not None else ''}", len(rows), len(configs))

    alone = names is None or (workers == 1 and engine == "processes")
    for index, config in enumerate(configs):
        if alone or stored_row(cells / cell_name(config)) is not None:  # what is done costs no process
            done(index, run_cell(config, cells, bench))
    missing = [i for i in range(len(configs)) if i not in rows]
    if not missing:
        return [rows[i] for i in range(len(configs))]
    jobs = [{"config": configs[i], "cells": str(cells.absolute()), "bench": dict(names or {})} for i in missing]

    def answered(at: int, row: Json) -> None:
        config = configs[missing[at]]
        # a worker that died left no row: this process writes one down
        done(missing[at], row if "label" in row else failed(config, row["error"], cells / cell_name(config)))

    options: Json = {"needs": _needs(configs, missing), "environment": _ONE_THREAD}
    if engine == "ray":
        gpus = float(str(configs[0]["device"] or "").startswith("cuda"))
        run_ray_jobs(f"{_WORKER}:answer", jobs, workers, answered, gpus=gpus, **options)
    else:
        run_jobs([sys.executable, "-m", _WORKER], jobs, workers, answered, **options)
    return [rows[i] for i in range(len(configs))]


def _needs(configs: list[Json], missing: list[int]) -> list[int | None]:
    """For each missing cell the place of the dense cell of its seed, where that one is missing too."""
    dense = {configs[i]["seed"]: at for at, i in enumerate(missing) if configs[i]["method"] == DENSE}
    return [None if configs[i]["method"] == DENSE else dense.get(configs[i]["seed"]) for i in missing]
