"""`sc.compare`: methods x targets x recoveries x seeds on one model and task, one protocol, in resumable cells."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur._version import __version__
from secateur.core import RecipeError, Task, spell_call

from .bench import Bench, Narrow, bench_from
from .cells import cell_name
from .checkpoint import write_folder
from .commands import cell_command, compare_command
from .comparison import Comparison
from .environment import environment
from .fairness import Budget
from .jsonfile import write_json
from .lock import held
from .pool import Engine, check_engine, run_cells
from .sources import content_of
from .sweep import cell_configs, contenders, methods_from, scratch_from, seeds_from, targets_from
from .tensors import sweep_halves, tensor_hash

Json = dict[str, Any]
FORMAT = 1


def compare(
    model: str | nn.Module,
    methods: Sequence[str | Mapping[str, Mapping[str, Any]]],
    *,
    sparsity: Sequence[float | None] | float | None,
    task: str | Task,
    seeds: int | Sequence[int] = 3,
    heal: float | None = None,
    recoveries: Sequence[str] | None = None,
    budget: Budget = "equal",
    small_dense: bool | str | Narrow = False,
    scratch: Sequence[str] = (),
    structure: str | None = None,
    train: bool | None = None,
    folder: str | Path = "runs/compare",
    workers: int = 1,
    engine: Engine = "processes",
    device: str | None = None,
) -> Comparison:
    """Compare methods on your model and task.

    The protocol is the same for all: the same starting weights and the same data order for the same seed, the same
    number of training steps. Methods that want an untrained model get the initialisation of the same seed, and the
    steps that the dense start took. Rows say steps and MACs, and whether settings are the paper's or were given.

    Args:
        model: a module (trained, unless `train=True`), or a name as on the command line.
        methods: ids, with settings as "gmp(end=0.6)" or `{"gmp": {"end": 0.6}}`.
        sparsity: one or several targets; None for structures that imply one.
        task: a task, or its name.
        seeds: how many, or which.
        heal: epochs of training after the dense start; by default a third of the task's training.
        recoveries: how pruned models are healed, as texts: "fine-tune", "fine-tune+distill(weight=0.7)", "none".
        budget: "equal" divides `heal` among the legs of an iterative method; "own" gives each leg that much, as the
            papers do, so that methods train for different lengths.
        small_dense: also train a narrower dense model with as many parameters as stay: True for built-in models, else
            a factory of the width (1 = as it is), or its name `file.py:factory`.
        scratch: also train what each method leaves from new weights (Liu et al., 2019): "e" for as many epochs as the
            dense model, "b" for as many MACs, "uniform" likewise, but with the same share of every layer removed at
            the method's MACs. Masks save MACs only in "b(flops_model=ideal)".
        structure: instead of the methods' own, as a text: "2:4".
        train: whether the model must be trained first; by default only `builtin:` models are.
        folder: where cells are kept; the same call goes on with what is missing.
        workers: how many processes; more than one needs model and task as names.
        engine: "processes" of this machine, or "ray" for a Ray cluster, whose nodes must all see `folder`.
        device: "cpu" or "cuda".

    Raises:
        RecipeError: the comparison makes no sense. Errors of single cells become rows instead.
        CheckpointError: another process is at work in the folder, or it cannot be written.
    """
    named = all(isinstance(given, str | bool) for given in (model, task, small_dense))
    check_engine(engine, workers, named)
    if budget not in ("equal", "own"):
        raise RecipeError(f"there is no budget {budget!r}", where="compare(budget=...)", mend='"equal" or "own"')
    bench = bench_from(model, task, train, small_dense)
    training = bench.task.training
    healed = float(heal if heal is not None else max(1, round(training.epochs / 3)))
    ways = list(recoveries) if recoveries is not None else ["fine-tune" if healed else "none"]
    chosen, targets, numbers = methods_from(methods), targets_from(sparsity), seeds_from(seeds)
    shared: Json = {
        "model": model if isinstance(model, str) else f"{type(model).__name__}-{tensor_hash(model.state_dict())[:12]}",
        "task": task if isinstance(task, str) else bench.task.name,
        "train": train,
        "structure": structure,
        "heal": healed,
        "budget": budget,
        "device": device,
        "content": [content_of(s) for s in (model, task) if isinstance(s, str)],
        "training": [repr(training), bench.task.batch_size, bench.task.epoch_steps()],
        "version": [__version__, torch.__version__],
    }
    cells, left_out = contenders(chosen, targets, ways, structure, scratch_from(scratch))
    narrow = [small_dense, content_of(small_dense)] if isinstance(small_dense, str) else []
    configs = cell_configs(shared, cells, numbers, targets if small_dense else (), narrow)
    metric = next(iter(bench.task.metrics), "loss")
    found = Comparison(
        rows=[],
        folder=Path(folder),
        metric=metric,
        lower=metric in bench.task.lower_is_better or metric == "loss",
        protocol=_protocol(
            shared, bench, numbers, small_dense if isinstance(small_dense, bool | str) else True, scratch
        ),
        left_out=left_out,
    )
    command = None
    if named:
        labels = [spell_call(id, settings) for id, settings in chosen]
        command = compare_command(found.protocol, labels, targets, ways, numbers, str(folder))
    configs = [{**config, "command": cell_command(config, found.protocol, command)} for config in configs]
    names = {"model": model, "task": task, "train": train, "small_dense": small_dense}
    with held(found.folder):
        sweep_halves(found.folder)
        _describe(found, configs, bench.task.lower_is_better, command)
        found.rows = run_cells(configs, found.folder / "cells", bench, names if named else None, workers, engine)
        _store(found)
    return found


def _protocol(shared: Json, bench: Bench, seeds: list[int], small_dense: bool | str, scratch: Sequence[str]) -> Json:
    """What is the same for all, in the words of `comparison.json`."""
    text, batch_size, epoch_steps = shared["training"]
    same = {key: shared[key] for key in ("model", "task", "train", "structure", "budget", "device")}
    epochs = {"dense": 0 if bench.trained else bench.task.training.epochs, "heal": shared["heal"]}
    told = {"epochs": epochs, "seeds": seeds, "batch_size": batch_size, "epoch_steps": epoch_steps, "training": text}
    return same | told | {"small_dense": small_dense, "scratch": list(scratch)}


def _describe(found: Comparison, configs: list[Json], less: frozenset[str], command: str | None) -> None:
    """Write `comparison.json` before the first cell, so that a killed sweep can be looked at."""
    described = {
        "format": FORMAT,
        "metric": found.metric,
        "lower": found.lower,
        "lower_is_better": sorted(less),
        "protocol": found.protocol,
        "environment": environment(),
        "command": command,
        "cells": [cell_name(config) for config in configs],
        "left_out": found.left_out,
    }
    write_json(found.folder / "comparison.json", described)


def _store(found: Comparison) -> None:
    """The rows in one file, and a copy of the best cell's result."""
    write_json(found.folder / "results.json", {"metric": found.metric, "rows": found.rows})
    best = found.best
    if best is None:
        return
    saved = found.folder / "cells" / best["folder"] / best["result"]

    def fill(folder: Path) -> None:
        for file in saved.iterdir():
            shutil.copyfile(file, folder / file.name)

    write_folder(found.folder / "best", fill, overwrite=True)
