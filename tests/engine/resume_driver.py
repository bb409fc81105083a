"""Runs one job in a folder, and kills itself at a named moment; for `test_resume.py` and `benchmarks/kill.py`.

    python tests/engine/resume_driver.py CASE FOLDER OUT [--kill LABEL:N ...] [--finish]

Each `--kill` is a process of its own (forked, so that torch is imported once) that dies by SIGKILL at the N-th event of
that label; `time:S` dies after S seconds wherever it is. `--finish` then runs to the end. Every process that comes so
far appends to OUT, as lines of JSON, the hash of the trainer's whole state at the end of training, and of the result
with the number of events by label. Labels:

    train, heal   an optimizer step was done, before and after the target sparsity was reached
    prune         a mask is about to be attached, so some matrices of this pruning have theirs and some do not
    recalibrate   a batch passes through the batch norms after training
    write         state, snapshot or run.json: half of the file is written, about to be renamed, just renamed
    save          likewise for the result, and around the clearing away of the state
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))

from sweeping import same

import secateur as sc
from secateur.engine import result as result_module
from secateur.engine.comparison import Comparison
from secateur.engine.runfolder import RunFolder
from secateur.engine.tensors import save_state, tensor_hash
from secateur.engine.training import Trainer
from secateur.recovery import batchnorm
from secateur.structures import channels as channels_module
from secateur.structures import weights
from secateur.tasks import builtin_task
from secateur.tasks.models import DigitsCNN


def _digits(**training: Any) -> sc.Task:
    return dataclasses.replace(builtin_task("digits"), training=sc.Training(**training), batch_size=100)


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return build()


def _dropout_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Dropout(0.3), nn.Linear(40, 10))


def _normed_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 10))


def gmp(**run: Any) -> sc.Result:
    """Gradual pruning with Adam and dropout: the generator's state decides what comes next."""
    task = _digits(epochs=2, optimizer="adam", lr=2e-3)
    return sc.prune(_seeded(_dropout_mlp), "gmp", sparsity=0.8, every=0.1, task=task, seed=3, **run)


def imp(**run: Any) -> sc.Result:
    """Rewinding with momentum: a snapshot, new optimizers, buffers that rewind."""
    task = _digits(epochs=1, optimizer="sgd", lr=0.05, momentum=0.9)
    return sc.prune(_seeded(_normed_mlp), "imp", sparsity=0.5, share=0.3, rewind_to=4, task=task, seed=3, **run)


def distill(**run: Any) -> sc.Result:
    """One-shot pruning healed by the dense model's logits, batch norms measured anew at the end."""
    recipe = sc.Recipe(
        structure=sc.structures.Weights(),
        score=sc.scores.Magnitude(),
        schedule=sc.schedules.OneShot(at=5),
        recovery=(sc.recovery.FineTune(), sc.recovery.Distill(weight=0.7), sc.recovery.RecalibrateBN(0.5)),
    )
    task = _digits(epochs=2, optimizer="sgd", lr=0.05, momentum=0.9)
    return sc.prune(_seeded(lambda: DigitsCNN(4)), recipe, sparsity=0.7, task=task, seed=3, **run)


def perp(**run: Any) -> sc.Result:
    """Adapters that come with the first pruning, are merged before the next, and train beside frozen weights."""
    recipe = sc.Recipe(
        structure=sc.structures.Weights(),
        score=sc.scores.Magnitude(),
        budget=sc.budgets.Uniform(),
        schedule=sc.schedules.CubicGradual(begin=0.1, end=0.7, every=0.2),
        recovery=(
            sc.recovery.FineTune(optimizer="adamw", lr_schedule="linear", warmup=0.1),
            sc.recovery.ParameterEfficient(rank=4),
        ),
    )
    task = _digits(epochs=2, optimizer="adam", lr=2e-3)
    return sc.prune(_seeded(_normed_mlp), recipe, sparsity=0.8, task=task, seed=3, **run)


def channels(**run: Any) -> sc.Result:
    """Channels cut again and again in mid-training: tensors and momentum shrink, and the sizes lie in the plan."""
    recipe = sc.Recipe(
        structure=sc.structures.Channels(),
        score=sc.scores.Magnitude(2),
        budget=sc.budgets.Global(),
        schedule=sc.schedules.CubicGradual(begin=0.1, end=0.7, every=0.2),
        recovery=(sc.recovery.FineTune(),),
    )
    task = _digits(epochs=2, optimizer="sgd", lr=0.05, momentum=0.9)
    return sc.prune(_seeded(lambda: DigitsCNN(8)), recipe, macs=0.5, task=task, seed=3, **run)


def train(run: Path, save_every_s: float) -> Comparison:
    """Plain training, as a comparison trains its dense model, and nothing pruned but in one shot."""
    return _compare(run, save_every_s, ["magnitude"], ["none"])


def compare(run: Path, save_every_s: float) -> Comparison:
    """A small sweep: dense, small dense, one-shot and rewinding, healed in two ways."""
    recoveries = ["fine-tune", "fine-tune+recalibrate-bn"]
    return _compare(run, save_every_s, ["magnitude", "imp(share=0.4)"], recoveries, small_dense=_narrow_mlp)


def _narrow_mlp(width: float) -> nn.Module:
    hidden = max(1, round(40 * width))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def _compare(run: Path, every: float, methods: list[str], recoveries: list[str], **more: Any) -> Comparison:
    # a comparison does not say how often its cells write their state
    RunFolder.due = lambda folder: time.monotonic() - folder._last >= every
    model, task = _seeded(_normed_mlp), _digits(epochs=1, optimizer="sgd", lr=0.05, momentum=0.9)
    common: dict[str, Any] = {"sparsity": 0.5, "seeds": 1, "heal": 1, "train": True, "folder": run}
    return sc.compare(model, methods, task=task, recoveries=recoveries, **common, **more)


CASES = {
    "gmp": gmp,
    "imp": imp,
    "distill": distill,
    "perp": perp,
    "channels": channels,
    "train": train,
    "compare": compare,
}


class Moments:
    """Counts events by label, and ends the process at one of them."""

    def __init__(self, label: str | None, n: int) -> None:
        self.label, self.n = label, n
        self.counts: Counter[str] = Counter()
        self.file_label = "write"

    def pass_(self, label: str, last_deed: Callable[[], object] = lambda: None) -> None:
        self.counts[label] += 1
        if label == self.label and self.counts[label] == self.n:
            last_deed()
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, trained: Callable[[dict[str, Any]], None]) -> None:
        """Hook the places where something can be half done. `trained` gets the trainer's state at its end."""
        self._watch_training(trained)
        self._watch_files()
        attach, to_device, cut = weights.attach_mask_, batchnorm.to_device, channels_module.proven_cut_
        channels_module.proven_cut_ = lambda *a: (self.pass_("prune"), cut(*a))[1]
        weights.attach_mask_ = lambda *a: (self.pass_("prune"), attach(*a))[1]
        batchnorm.to_device = lambda *a: (self.pass_("recalibrate"), to_device(*a))[1]

    def _watch_training(self, trained: Callable[[dict[str, Any]], None]) -> None:
        step, rest = Trainer._step, Trainer._fit_rest

        def _step(trainer: Trainer, batch: Any) -> None:
            step(trainer, batch)
            keep = trainer.maker.keep if trainer.maker is not None else None
            healing = keep is not None and keep.sparsity > trainer.target.sparsity - 0.01
            self.pass_("heal" if healing else "train")

        def _fit_rest(trainer: Trainer) -> None:
            rest(trainer)
            trained(trainer.state())

        Trainer._step, Trainer._fit_rest = _step, _fit_rest

    def _watch_files(self) -> None:
        fsync, replace, clear, write = os.fsync, Path.replace, RunFolder.clear, result_module.write_folder

        def half_written(handle: int) -> None:
            self.pass_(self.file_label, lambda: os.ftruncate(handle, os.fstat(handle).st_size // 2))
            fsync(handle)

        def renamed(path: Path, to: Any) -> Path:
            self.pass_(self.file_label)
            there = replace(path, to)
            self.pass_(self.file_label)
            return there

        def cleared(folder: RunFolder) -> None:
            self.pass_("save")
            clear(folder)
            self.pass_("save")

        def saved(*arguments: Any, **named: Any) -> Path:
            self.file_label = "save"
            return write(*arguments, **named)

        os.fsync, Path.replace, RunFolder.clear, result_module.write_folder = half_written, renamed, cleared, saved


def state_hash(state: dict[str, Any]) -> str:
    """Of everything in a trainer's state: tensors, optimizer, masks, position, losses, generators."""
    with tempfile.TemporaryDirectory() as folder:
        save_state(Path(folder) / "state", state)
        return hashlib.sha256((Path(folder) / "state").read_bytes()).hexdigest()


def left_over(folder: Path) -> list[str]:
    """What a finished job has no business to leave: hidden files, states, snapshots."""
    found = [p for p in folder.rglob("*") if p.name.startswith((".", "state.", "snapshot"))]
    return sorted(str(p.relative_to(folder)) for p in found)


def result_hash(result: sc.Result | Comparison) -> str:
    """Of weights, masks, keep, plan, measures, history and provenance, all but the date; of all cells of a sweep."""
    if isinstance(result, Comparison):
        told = same(result.rows, result.folder / "cells")
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    told = {k: v for k, v in result.provenance.items() if k != "date"}
    facts = [result.plan.to_json(), result.before, result.after, result.sparsity, result.history, told]
    plain = hashlib.sha256(json.dumps(facts, sort_keys=True, default=repr).encode()).hexdigest()
    assert result.keep is not None
    tensors = [tensor_hash(t) for t in (result.subject.state_dict(), result.masks, result.keep.masks)]
    return "/".join(h[:16] for h in (*tensors, plain))


def run(case: str, folder: Path, out: Path, moments: Moments, every: float) -> None:
    """One process: prune in the folder, and tell the hashes."""

    def tell(**line: Any) -> None:
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")

    moments.watch(lambda state: tell(state=state_hash(state)))
    result = CASES[case](run=folder, save_every_s=every)
    tell(result=result_hash(result), counts=moments.counts)


def in_child(work: Callable[[], None], dies_after_s: float | None = None) -> int:
    """The status of a forked process that does the work: negative for the signal that ended it."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(1)
        os._exit(0)
    if dies_after_s is not None:
        time.sleep(dies_after_s)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(case: str, folder: Path, out: Path, kill: str, every: float) -> int:
    """How a forked process on the folder ended that was to die at `kill`, such as "heal:3"; "none" lets it live."""
    label, _, n = kill.partition(":")
    moments = Moments(None, 0) if label in ("time", "none") else Moments(label, int(n))
    work = functools.partial(run, case, folder, out, moments, every)
    return in_child(work, float(n) if label == "time" else None)


def import_before_the_forks() -> None:
    """What a first run imports and reads late, so that not every fork does it again."""
    import accelerate.optimizer  # noqa: F401

    builtin_task("digits")
    torch.optim.SGD([nn.Parameter(torch.zeros(1))]).step()


def main() -> int:
    """The command line; exits with 1 if a process ended otherwise than by the kill or well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kill", action="append", default=[], metavar="LABEL:N")
    parser.add_argument("--every", type=float, default=0.0, help="seconds between two states on disk")
    parser.add_argument("--finish", action="store_true")
    given = parser.parse_args()
    import_before_the_forks()
    for kill in given.kill:
        status = killed(given.case, given.folder, given.out, kill, given.every)
        print(json.dumps({"kill": kill, "status": status}), flush=True)  # noqa: T201
        if status not in (0, -signal.SIGKILL):
            return 1
    if given.finish:
        run(given.case, given.folder, given.out, Moments(None, 0), given.every)
    return 0


if __name__ == "__main__":
    sys.exit(main())
