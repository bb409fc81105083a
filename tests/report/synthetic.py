"""A comparison on disk as `docs/design/comparison.md` lays it down, without training: for tests and the benchmark."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from secateur.engine.manifest import write_manifest

LAYERS = {"conv1.weight": (16, 1, 3, 3), "conv2.weight": (32, 16, 3, 3), "conv3.weight": (64, 32, 3, 3)}
LAYERS |= {"fc1.weight": (64, 256), "fc2.weight": (10, 64)}
METHODS = ("magnitude", "lamp", "gmp", "imp", "snip", "grasp", "rigl", "set", "wanda", "random")
PLACE = ("method", "settings", "label", "tuned", "sparsity", "structure", "recovery", "seed", "command", "folder")
VERSIONS = {"secateur": "0.1.0", "torch": "2.9.0", "python": "3.11.7"}


def write_comparison(
    folder,
    methods=METHODS[:3],
    sparsities=(0.5, 0.8, 0.9),
    seeds=3,
    recoveries=("finetune",),
    command="secateur compare builtin:digits-cnn -t builtin:digits",
    points=60,
):
    """Write every cell; gives the folder."""
    cells = folder / "cells"
    names = []
    for seed in range(seeds):
        names.append(_cell(cells, "dense", 0.0, "none", seed, 0, command, points))
        names += [_cell(cells, "small-dense", p, "none", seed, 0, command, points) for p in sparsities]
    for at, method in enumerate(methods):
        for sparsity in sparsities:
            for recovery in recoveries:
                for seed in range(seeds):
                    names.append(_cell(cells, method, sparsity, recovery, seed, at, command, points))
    protocol = {"model": "builtin:digits-cnn", "task": "builtin:digits", "train": True, "budget": "equal"}
    protocol |= {"epochs": 10, "seeds": list(range(seeds)), "batch_size": 64, "epoch_steps": 21}
    protocol |= {"training": "adam, lr 0.002, cosine", "device": "cpu"}
    told = {"format": 1, "metric": "accuracy", "lower": False, "protocol": protocol, "command": command}
    told["environment"] = {**VERSIONS, "processor": "a processor", "system": "Linux x86_64"}
    told |= {"cells": names, "left_out": [{"method": "rigl", "recovery": "distill", "reason": "it trains anyway"}]}
    (folder / "comparison.json").write_text(json.dumps(told))
    return folder


def _cell(cells, method, sparsity, recovery, seed, at, command, points):
    name = f"{method}-{sparsity}-{recovery}-seed{seed}-{hashlib.sha256(method.encode()).hexdigest()[:8]}"
    cell = cells / name
    pruned = method not in ("dense", "small-dense")
    result = cell / "run" / "result" if pruned else cell / "result"
    result.mkdir(parents=True)
    g = np.random.default_rng([seed, at, int(1000 * sparsity), len(recovery)])
    layers, masks = _masks(method, sparsity, seed, at) if pruned else ({}, {})
    write_result(result, method, sparsity, seed, recovery, layers, masks, g, points)
    total = sum(map(math.prod, LAYERS.values())) * (1 if method != "small-dense" else 1 - sparsity)
    kept = sum(int(m.sum()) for m in masks.values()) if pruned else int(total)
    accuracy = 0.975 - (0.06 + 0.015 * at) * sparsity**6
    accuracy -= 0.02 * sparsity * (method == "small-dense")
    accuracy += 0.004 * len(recovery.split("+")) * sparsity + 0.003 * g.standard_normal()
    row = {
        "method": method,
        "settings": {"end": 0.5} if method == "gmp" else {},
        "label": "gmp(end=0.5)" if method == "gmp" else method,
        "tuned": "given" if method == "gmp" else "defaults",
        "sparsity": 0.0 if method == "dense" else sparsity,
        "structure": "weights" if pruned else "",
        "recovery": recovery,
        "seed": seed,
        "metrics": {"accuracy": accuracy, "loss": 0.1 + 2 * (1 - accuracy)},
        "params": int(total),
        "nonzero": kept,
        "macs": int(total) * 20,
        "macs_nonzero": kept * 20,
        "bytes_on_disk": (result / "model.safetensors").stat().st_size,
        "latency_ms": 0.41 + 0.01 * g.standard_normal(),
        "latency_ratio": 1.0 + 0.02 * g.standard_normal(),
        "real_sparsity": sparsity * pruned,
        "sparsity_all": sparsity * 0.99 * pruned,
        "train_steps": 210,
        "train_macs": 210 * 64 * 3 * int(total) * 20,
        "train_steps_before": 210 * pruned,
        "train_macs_before": 0,
        "folder": name,
        "result": str(result.relative_to(cell)),
        "command": f"{command} -m {method} -s {sparsity} --seeds {seed}" if command else None,
        "cpu_seconds": 3.2 + g.random(),
    }
    (cell / "row.json").write_text(json.dumps(row))
    return name


def _masks(method, sparsity, seed, at):
    """Magnitudes that all methods of a seed share, and a part that each has for itself."""
    shared, own = np.random.default_rng(seed), np.random.default_rng([seed, at])
    layers, masks = {}, {}
    for i, (name, shape) in enumerate(LAYERS.items()):
        score = np.abs(shared.standard_normal(shape)) + (0.2 + 0.15 * at) * own.random(shape)
        local = min(0.995, sparsity * (0.72 + 0.07 * i + 0.02 * (at % 3)))
        masks[name] = score > np.quantile(score, local)
        layers[name] = 1 - float(masks[name].mean())
    return layers, masks


def write_result(folder, method, sparsity, seed, recovery, layers, masks, g, points=60):
    """A saved result with real masks, and the hash that a reader checks."""
    tensors = {}
    for name, mask in masks.items():
        tensors[f"{name}:bits"] = np.packbits(mask.ravel(), bitorder="little")
        tensors[f"{name}:values"] = g.standard_normal(int(mask.sum())).astype(np.float32)
    save_file(tensors or {"fc2.bias": np.zeros(10, np.float32)}, folder / "model.safetensors")
    steps = np.linspace(1, 210, points).astype(int).tolist()
    losses = (2.2 * np.exp(-np.array(steps) / 60) + 0.1 + 0.03 * g.random(points)).tolist()
    manifest = {
        "secateur": "0.1.0",
        "before": {"metrics": {"accuracy": 0.97, "loss": 0.1}, "params": 40_000, "nonzero": 40_000},
        "after": {"metrics": {"accuracy": 0.96, "loss": 0.2}, "params": 40_000, "nonzero": 4_000, "macs": 800_000},
        "sparsity": {"sparsity": sparsity, "sparsity_all": sparsity, "per_group": layers},
        "curve": {"step": steps, "loss": losses},
        "keep": {name: list(mask.shape) for name, mask in masks.items()},
        "subject": "module",
        "provenance": {
            "method": method,
            "recipe": {
                "structure": {"weights": {"include": ["*"]}},
                "score": {method: {}},
                "recovery": [recovery],
            },
            "sparsity": sparsity,
            "seed": seed,
            "train_steps": 210,
            "training": {"epochs": 10, "optimizer": "adam", "lr": 0.002},
            "versions": VERSIONS,
            "date": "2031-01-01T10:00:00+00:00",
        },
    }
    seal(folder, manifest)


def seal(folder: Path, manifest):
    """Write `secateur.json` as a saved result has it."""
    write_manifest(folder, {k: v for k, v in manifest.items() if k not in ("format", "sha256", "files")})


def damage(folder, failed=1, missing=2):
    """Make the last cells failed, and others not run yet."""
    told = json.loads((folder / "comparison.json").read_text())
    for name in told["cells"][-failed:]:
        row = json.loads((folder / "cells" / name / "row.json").read_text())
        (folder / "cells" / name / "row.json").unlink()
        place = (
            "method",
            "settings",
            "label",
            "tuned",
            "sparsity",
            "structure",
            "recovery",
            "seed",
            "command",
            "folder",
        )
        error = {k: row[k] for k in place} | {"error": "layer collapse: conv1.weight is empty\n  where: magnitude"}
        (folder / "cells" / name / "error.json").write_text(json.dumps(error))
    for name in told["cells"][-failed - missing : -failed]:
        (folder / "cells" / name / "row.json").unlink()
    return folder
