"""What the tests of comparisons share: a tiny model and task in a file of their own, and what must be equal."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from secateur.engine.tensors import tensor_hash

MINE = """
import time
import torch
import secateur as sc
from torch.utils.data import TensorDataset

def Mine(width=1.0):
    hidden = max(1, round(16 * width))
    return torch.nn.Sequential(torch.nn.Linear(6, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 3))

class Slow(TensorDataset):
    def __getitems__(self, indices):
        time.sleep(0.02)
        return [self[i] for i in indices]

def make(data):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(96, 6, generator=g)
    data = data(x, (x[:, 0] > 0) + (x[:, 1] > 0).long())
    return sc.Task(train=data, test=data, training=sc.Training(epochs=8, lr=0.01), batch_size=32, model=Mine)

def task():
    return make(TensorDataset)

def slow_task():
    return make(Slow)
"""
MEASURED = {"cpu_seconds", "latency_ms", "latency_ratio", "command"}
"""What differs from run to run."""


def write_mine(folder: Path) -> dict[str, Any]:
    """Write the file; gives the arguments that name its model and task."""
    (folder / "mine.py").write_text(MINE)
    name = str(folder / "mine.py")
    return {"model": f"{name}:Mine", "task": f"{name}:task", "train": True}


def same(rows: list[dict[str, Any]], cells: Path) -> list[Any]:
    """What must be equal in two comparisons: every measure that no clock takes, and every stored tensor."""
    told = [{k: v for k, v in row.items() if k not in MEASURED} for row in rows]
    hashes = [
        tensor_hash(load_file(cells / r["folder"] / r["result"] / "model.safetensors")) if "result" in r else None
        for r in rows
    ]
    return json.loads(json.dumps([told, hashes]))
