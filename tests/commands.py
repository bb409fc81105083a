"""The command `secateur`, scripts, pages of the guide, and reading a saved model, in processes of their own.

They are forked from one that has imported torch, which saves seconds for each.

A few tests run `python -m secateur` itself: those of Ctrl-C and of start-up.
"""

import io
import json
import multiprocessing
import os
import runpy
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "torch",
        "torch._dynamo",
        "accelerate.optimizer",
        "transformers.generation",
        "transformers.models.llama.modeling_llama",
        "sklearn.datasets",
        "rich.table",
        "secateur.engine.prune",
    ]
)


@dataclass(frozen=True)
class Done:
    """How a process ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


def secateur(*arguments, cwd=None, check=None):
    """Run the command; with `check`, that exit code is asserted."""
    done = started(*arguments, cwd=cwd).ended()
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


def started(*arguments, cwd=None):
    """Begin to run the command."""
    return Started(_run, [str(a) for a in arguments], cwd)


def generated_elsewhere(folders, ids, new):
    """What a process that never saw the models generates greedily from their folders, with the cache: lists of ids."""
    done = forked(_generate, [str(folder) for folder in folders], ids.tolist(), new)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def page(path, cwd, alone=False):
    """Run what a page of Markdown holds; whatever is deprecated is an error."""
    return forked(_page, str(path), str(cwd), alone)


def script(path, *arguments):
    """Run a Python file as a script."""
    return started_script(path, *arguments).ended()


def started_script(path, *arguments):
    """Begin to run a Python file as a script."""
    return Started(_script, str(path), [str(a) for a in arguments])


def forked(target, *arguments):
    """Call a function of an importable module in a process of its own."""
    return Started(target, *arguments).ended()


class Started:
    """A process that calls a function of an importable module."""

    def __init__(self, target, *arguments):
        self._place = tempfile.TemporaryDirectory()
        self._files = [Path(self._place.name) / name for name in ("out", "err")]
        self._child = _FORKS.Process(target=_written, args=(*self._files, target, *arguments))
        self._child.start()

    @property
    def pid(self):
        return self._child.pid

    def runs(self):
        return self._child.is_alive()

    def ended(self, timeout=None):
        """Wait for its end; one that outlasts the seconds is killed and fails the test."""
        self._child.join(timeout)
        if late := self.runs():
            self._child.kill()
            self._child.join()
        with self._place:
            done = Done(self._child.exitcode, *(file.read_text() for file in self._files))
        assert not late, done
        return done


def _written(out, err, target, *arguments):
    for number, file in ((0, Path(os.devnull)), (1, out), (2, err)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(n, "w"), write_through=True) for n in (1, 2))
    os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    target(*arguments)


def _run(arguments, cwd):
    if cwd is not None:
        os.chdir(cwd)
    sys.argv = ["secateur", *arguments]
    from secateur.cli.main import run

    run()


def _script(path, arguments):
    sys.argv = [path, *arguments]
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")


def _page(path, cwd, alone):
    import warnings

    import markdown_pages

    for name in [name for name in os.environ if name.startswith("SECATEUR")]:
        del os.environ[name]
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.filterwarnings("error", category=DeprecationWarning)
    os.chdir(cwd)
    markdown_pages.run_page(Path(path), alone)


def _generate(folders, ids, new):
    import torch

    import secateur.transformers

    torch.set_num_threads(1)
    start = torch.tensor(ids)
    for folder in folders:
        model = secateur.transformers.from_pretrained(folder)
        given = {"attention_mask": torch.ones_like(start), "max_new_tokens": new, "do_sample": False}
        sys.stdout.write(json.dumps(model.generate(start, **given).tolist()) + "\n")
