"""The command `secateur` in a process of its own, forked from one that has imported torch: seconds less for each call.

A few tests run `python -m secateur` itself: those of Ctrl-C, of start-up, of sweeps.
"""

import io
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["torch", "transformers", "sklearn.datasets", "rich.table", "secateur.engine.prune"])


@dataclass(frozen=True)
class Done:
    """How a process ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def secateur(*arguments, cwd=None, check=None):
    """Run the command; with `check`, that exit code is asserted."""
    with tempfile.TemporaryDirectory() as place:
        out, err = (Path(place) / name for name in ("out", "err"))
        child = _FORKS.Process(target=_run, args=([str(a) for a in arguments], cwd, out, err))
        child.start()
        child.join()
        done = Done(child.exitcode, out.read_text(), err.read_text())
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


def _run(arguments, cwd, out, err):
    for number, file in ((0, Path(os.devnull)), (1, out), (2, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w"), write_through=True) for n in (1, 2))
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    if cwd is not None:
        os.chdir(cwd)
    sys.argv = ["secateur", *arguments]
    from secateur.cli.main import run

    run()
