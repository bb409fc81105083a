"""The command `secateur`, pages of the guide, and reading a saved model, in processes of their own.

They are forked from one that has imported torch, which saves seconds for each.

A few tests run `python -m secateur` itself: those of Ctrl-C, of start-up, of sweeps.
"""

import io
import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "torch",
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
    done = forked(_run, [str(a) for a in arguments], cwd)
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


def generated_elsewhere(folders, ids, new):
    """What a process that never saw the models generates greedily from their folders, with the cache: lists of ids."""
    done = forked(_generate, [str(folder) for folder in folders], ids.tolist(), new)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def page(path, cwd, alone=False):
    """Run what a page of Markdown holds; whatever is deprecated is an error."""
    return forked(_page, str(path), str(cwd), alone)


def forked(target, *arguments):
    """Call a function of an importable module in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        out, err = (Path(place) / name for name in ("out", "err"))
        child = _FORKS.Process(target=_written, args=(out, err, target, *arguments))
        child.start()
        child.join()
        return Done(child.exitcode, out.read_text(), err.read_text())


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
