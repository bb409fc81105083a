"""One cell of a comparison: a method at a target with a seed, in a folder named by the hash of its configuration."""

import copy
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from secateur.core import Plan, SecateurError, Task, first_sample, registry, to_device
from secateur.core.costs import macs_by_module
from secateur.runtime import compare_latency

from .checkpoint import read_manifest
from .measure import measure
from .prune import prune
from .result import Result, provenance
from .rng import seeded
from .runfolder import fingerprint
from .sources import model_from, task_from
from .tensors import load_state, save_state, write_atomically
from .training import Device, fresh_, train_

_log = logging.getLogger(__name__)
Json = dict[str, Any]

DENSE = "dense"


@dataclass(frozen=True)
class Bench:
    """What all cells of a comparison share: where an untrained or trained model comes from, and the task.

    Attributes:
        make: the model of a seed: untrained (then the dense cell trains it), or already trained.
        trained: whether `make` gives trained models.
        task: data, loss, metrics.
    """

    make: Callable[[int], nn.Module]
    trained: bool
    task: Task


def bench_from(model: str | nn.Module, task: str | Task, train: bool | None) -> Bench:
    """The bench for names (built anew in every process) or objects.

    Args:
        train: whether the model must be trained first; by default a `builtin:` model must, any other is trained.
    """
    goal = task_from(task) if isinstance(task, str) else task
    untrained = train if train is not None else isinstance(model, str) and model.startswith("builtin:")

    def make(seed: int) -> nn.Module:
        with seeded(seed):
            return model_from(model) if isinstance(model, str) else copy.deepcopy(model)

    return Bench(make, not untrained, goal)


def cell_name(config: Mapping[str, Any]) -> str:
    """The folder of a cell: readable, and unique by its configuration."""
    label = config["method"] if config["method"] == DENSE else f"{config['method']}-{config['sparsity']}"
    return f"{label}-seed{config['seed']}-{fingerprint(config)}"


def run_cell(config: Json, cells: Path, bench: Bench) -> Json:
    """Run one cell, or give the row that it left when it ran before. A failed cell is a row with its error.

    Args:
        config: method, settings, sparsity, seed, heal, device, and what names the bench.
        cells: the folder of all cells; the dense cell of the same seed must have run.
    """
    folder = cells / cell_name(config)
    row = folder / "row.json"
    if row.is_file():
        return dict(json.loads(row.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    start = time.process_time()
    try:
        found = _dense(config, folder, bench) if config["method"] == DENSE else _pruned(config, cells, folder, bench)
    except SecateurError as error:
        _log.warning("%s: %s", cell_name(config), error)
        return {**_label(config), "folder": folder.name, "error": str(error)}
    except Exception as error:  # whatever breaks in one cell is a row, not the end of the sweep
        _log.exception("%s failed", cell_name(config))
        return {**_label(config), "folder": folder.name, "error": f"{type(error).__name__}: {error}"}
    found = {**_label(config), "folder": folder.name, **found, "cpu_seconds": time.process_time() - start}
    write_atomically(row, json.dumps(found, indent=1).encode())
    return found


def _label(config: Json) -> Json:
    return {key: config[key] for key in ("method", "settings", "sparsity", "seed", "structure")}


def dense_config(config: Json) -> Json:
    """The dense cell that a cell starts from."""
    return {**config, "method": DENSE, "settings": {}, "sparsity": 0.0, "structure": None, "heal": None}


def _dense(config: Json, folder: Path, bench: Bench) -> Json:
    """Train the seed's model where it is not trained, and measure it."""
    model, task = bench.make(config["seed"]), bench.task.fork(config["seed"])
    save_state(folder / "initial.safetensors", dict(model.state_dict()))
    steps = 0
    if not bench.trained:
        title = f"dense, seed {config['seed']}"
        steps = train_(model, task, seed=config["seed"], device=Device(config["device"]), title=title)
    save_state(folder / "trained.safetensors", dict(model.state_dict()))
    example = next(iter(task.batches("test", shuffle=False)))
    result = Result(
        model,
        Plan(),
        None,
        after=measure(model, task, example),
        provenance=provenance(None, DENSE, seed=config["seed"], train_steps=steps),
        example=example[0] if isinstance(example, tuple | list) else None,
    )
    result.save(folder / "result", overwrite=True)
    return _row(result, folder / "result", 1.0, steps, task, 0)


def _pruned(config: Json, cells: Path, folder: Path, bench: Bench) -> Json:
    seed, method = config["seed"], config["method"]
    dense = cells / cell_name(dense_config(config))
    task = bench.task.fork(seed)
    model = bench.make(seed)
    entry = registry.get(method).entry
    model.load_state_dict(load_state(dense / "trained.safetensors"))
    trained = copy.deepcopy(model)
    if entry.start == "init":
        if bench.trained:
            fresh_(model, task, seed)
        else:
            model.load_state_dict(load_state(dense / "initial.safetensors"))
    result = prune(
        model,
        method,
        sparsity=config["sparsity"],
        structure=config["structure"],
        task=task,
        heal=config["heal"],
        seed=seed,
        device=config["device"],
        run=folder / "run",
        **config["settings"],
    )
    example = first_sample(next(iter(task.batches("test", shuffle=False))))
    result.subject.to("cpu")
    latency = compare_latency(trained, result.subject, example, call=task.call).ratio
    before = 0 if entry.start == "init" else _dense_steps(dense)
    steps = result.provenance["train_steps"]
    return _row(result, folder / "run" / "result", latency, steps, task, before)


def _dense_steps(dense: Path) -> int:
    return int(read_manifest(dense / "result")["provenance"]["train_steps"])


def _row(result: Result, saved: Path, latency: float, steps: int, task: Task, before: int) -> Json:
    batch = to_device(next(iter(task.batches("train", shuffle=False))), "cpu")
    forward = macs_by_module(result.subject, batch, task.call).get("", 0)
    sparsity = result.sparsity
    return {
        "metrics": result.metrics,
        "params": result.after["params"],
        "nonzero": result.after["nonzero"],
        "macs": result.after.get("macs"),
        "macs_nonzero": result.after.get("macs_nonzero"),
        "bytes_on_disk": (saved / "model.safetensors").stat().st_size,
        "latency_ratio": latency,
        "real_sparsity": sparsity.get("sparsity", 0.0),
        "sparsity_all": sparsity.get("sparsity_all", 0.0),
        "train_steps": steps,
        "train_steps_before": before,
        "train_macs": 3 * forward * steps,  # backward costs about twice the forward pass
        "result": str(saved.relative_to(saved.parents[1] if saved.parent.name == "run" else saved.parent)),
    }


def copy_result(cells: Path, row: Json, to: Path) -> None:
    """Copy the saved result of a cell."""
    if to.exists():
        shutil.rmtree(to)
    shutil.copytree(cells / row["folder"] / row["result"], to)
