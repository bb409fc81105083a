"""Saves over an old result and is killed at every moment of it; prints which of the two can be loaded afterwards.

python tests/engine/save_driver.py FOLDER
"""

import json
import shutil
import signal
import sys
from pathlib import Path

import torch
from resume_driver import Moments, in_child
from torch import nn

import secateur as sc


def result(value: float) -> sc.Result:
    """A pruned layer whose weights tell which result it is."""
    model = nn.Linear(4, 4)
    torch.nn.init.constant_(model.weight, value)
    return sc.prune(model, "magnitude", sparsity=0.5)


def which(folder: Path) -> str:
    """The result that can be loaded: "old" or "new"."""
    return {1.0: "old", 2.0: "new"}[sc.load(folder).weight.max().item()]


def main(place: Path) -> None:
    """Kill at the first, second, ... moment, until one is beyond the end."""
    place.mkdir(parents=True, exist_ok=True)
    old, new = result(1.0), result(2.0)
    for n in range(1, 100):
        folder = place / str(n)
        old.save(folder)

        def save_over(folder: Path = folder, n: int = n) -> None:
            moments = Moments("save", n)
            moments.watch(lambda state: None)
            new.save(folder, overwrite=True)

        status = in_child(save_over)
        if status == 0:
            return
        assert status == -signal.SIGKILL, status
        found = which(folder)
        new.save(folder, overwrite=True)
        left = sorted(p.name for p in place.iterdir() if p.name != folder.name)
        print(json.dumps({"after_kill": found, "after_next_save": which(folder), "left_over": left}))  # noqa: T201
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
