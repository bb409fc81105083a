"""One cell of a comparison: a method at a target with a seed, in a folder named by the hash of its configuration."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from secateur.core import CheckpointError, SecateurError, Task, samples_for, spell_call, to_device
from secateur.core.costs import macs_by_module
from secateur.runtime import compare_latency

from .baselines import dense_, small_dense
from .bench import Bench
from .contender import pruned
from .jsonfile import read_json, write_json
from .result import Result
from .runfolder import fingerprint
from .tensors import load_state, sweep_halves

_log = logging.getLogger(__name__)
Json = dict[str, Any]

DENSE, SMALL = "dense", "small-dense"
PLACE = ("method", "settings", "label", "tuned", "structure", "sparsity", "recovery", "seed")
"""What says which cell a row belongs to."""


def cell_name(config: Mapping[str, Any]) -> str:
    """The folder of a cell: readable, and unique by its configuration."""
    label = config["method"] if config["method"] == DENSE else f"{config['method']}-{config['sparsity']}"
    return f"{label}-seed{config['seed']}-{fingerprint(identity(config))}"


def identity(config: Mapping[str, Any]) -> Json:
    """What makes the cell this cell: everything but the command that asks for it."""
    return {key: value for key, value in config.items() if key != "command"}


def place(config: Mapping[str, Any]) -> Json:
    """Which cell it is, as its row says it."""
    settings = config["settings"]
    told = {"label": spell_call(config["method"], settings), "tuned": "given" if settings else "defaults"}
    return {key: told[key] if key in told else config[key] for key in PLACE}


def stored_row(folder: Path) -> Json | None:
    """The row of a cell that is done; None where there is none, or none that can be read.

    The result of a cell lies in its run folder, so a damaged row costs a measurement, not the run.
    """
    row = read_json(folder / "row.json")
    return row if isinstance(row, dict) and isinstance(row.get("metrics"), dict) else None


def run_cell(config: Json, cells: Path, bench: Bench) -> Json:
    """Run one cell, or give the row that it left when it ran before. A failed cell is a row with its error.

    Args:
        config: method, settings, sparsity, recovery, seed, heal, budget, device, what names the bench, and the
            command that makes the cell again.
        cells: the folder of all cells; the dense cell of the same seed must have run.
    """
    folder = cells / cell_name(config)
    row = stored_row(folder)
    if row is not None:
        return {**row, **place(config)}
    begin = time.process_time()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep_halves(folder)
        write_json(folder / "cell.json", config)
        found = _measured(config, cells, folder, bench)
        found = {**place(config), "folder": folder.name, **found, "cpu_seconds": time.process_time() - begin}
        write_json(folder / "row.json", found)
    except SecateurError as error:
        _log.warning("%s: %s", folder.name, error)
        return failed(config, str(error), folder)
    except Exception as error:  # whatever breaks in one cell is a row, not the end of the sweep
        _log.exception("%s failed", folder.name)
        return failed(config, f"{type(error).__name__}: {error}", folder)
    (folder / "error.json").unlink(missing_ok=True)
    return found


def failed(config: Json, error: str, folder: Path) -> Json:
    """The row of a cell that did not end well, written down beside it; the next call tries it again."""
    row = {**place(config), "folder": folder.name, "error": error}
    try:
        write_json(folder / "error.json", row)
    except CheckpointError as fault:  # a full disk: the row still says what happened
        _log.warning("%s: %s", folder.name, fault)
    return row


def _measured(config: Json, cells: Path, folder: Path, bench: Bench) -> Json:
    seed, task = config["seed"], bench.task.fork(config["seed"])
    if config["method"] == DENSE:
        result = dense_(bench.make(seed), task, identity(config), folder, bench.trained)
        return _row(result, config, folder, result.subject, task, None)
    start = cells / cell_name(dense_config(config))
    before = stored_row(start)
    if before is None:
        raise CheckpointError(
            "the dense model that it starts from is not there",
            where=str(start),
            mend="mend what its own row says, and repeat the command",
        )
    dense = bench.make(seed)
    dense.load_state_dict(load_state(start / "trained.safetensors"))
    if config["method"] == SMALL:
        result = small_dense(dense, task, identity(config), folder, bench)
        return _row(result, config, folder, dense, task, None)
    result, from_dense = pruned(dense, task, config, folder, start, bench)
    return _row(result, config, folder, dense, task, before if from_dense else None)


def dense_config(config: Mapping[str, Any]) -> Json:
    """The dense cell that a cell starts from: the same under every protocol."""
    free = dict.fromkeys(("structure", "recovery", "heal", "budget"))
    same = {key: value for key, value in config.items() if key != "narrow"}
    return {**same, **free, "method": DENSE, "settings": {}, "sparsity": 0.0}


def _row(result: Result, config: Json, folder: Path, dense: nn.Module, task: Task, before: Json | None) -> Json:
    """The measures of a cell; `before` is the row of the dense start, where the cell began from it."""
    subject = result.subject.to("cpu")
    batch = to_device(next(iter(task.batches("train", shuffle=False))), "cpu")
    forward = macs_by_module(subject, batch, task.call).get("", 0)
    latency = compare_latency(dense.to("cpu"), subject, samples_for(subject, batch), repeats=2, call=task.call)
    steps = result.provenance["train_steps"]
    saved = folder / "run" / "result"
    return {
        "metrics": result.metrics,
        "params": result.after["params"],
        "nonzero": result.after["nonzero"],
        "macs": result.after.get("macs"),
        "macs_nonzero": result.after.get("macs_nonzero"),
        "bytes_on_disk": (saved / "model.safetensors").stat().st_size,
        "latency_ms": latency.second_ms,
        "latency_ratio": 1.0 if subject is dense else latency.ratio,
        "real_sparsity": result.sparsity.get("sparsity", 0.0),
        "sparsity_all": result.sparsity.get("sparsity_all", 0.0),
        "train_steps": steps,
        "train_macs": 3 * forward * steps,  # backward costs about twice the forward pass
        "train_steps_before": before["train_steps"] if before else 0,
        "train_macs_before": before["train_macs"] if before else 0,
        "result": "run/result",
        "command": config.get("command"),
    }
