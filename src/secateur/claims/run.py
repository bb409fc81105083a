"""Running a claim: paired seeds, one after another or in processes, each kept as soon as it is there."""

import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from secateur._version import __version__
from secateur.core import RecipeError
from secateur.core.progress import report
from secateur.engine.result import Result
from secateur.engine.rng import seeded
from secateur.engine.tensors import write_atomically
from secateur.scale import run_jobs

from .claim import Claim, get, resolve
from .store import RESULTS, Record, read_record, result_file
from .verdict import judge

Run = dict[str, Any]
"""`seed`, the measures of each side, CPU seconds of each."""


def run_claim(id: str, *, workers: int = 1, folder: Path = RESULTS, again: bool = False) -> list[Record]:
    """Measure a claim, or all claims of a method, and store the results.

    A claim whose result is there is not run again. One that was killed goes on with the seeds that are missing.

    Args:
        id: of a claim (`gmp.cubic_beats_one_shot`), or of a method for all of its claims.
        workers: processes; each uses one thread. With 1 everything runs in this process.
        folder: where results are stored, one JSON file for each claim.
        again: run it although its result is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [_run(get(one), workers, folder, again) for one in resolve(id)]


def _run(claim: Claim, workers: int, folder: Path, again: bool) -> Record:
    stored = read_record(claim.id, folder)
    if stored is not None and not again and _is_of(stored, claim):
        return stored
    partial = folder / f"{claim.id}.part.json"
    runs = _read_partial(partial, claim)
    missing = [seed for seed in range(claim.seeds) if seed not in {r["seed"] for r in runs}]

    def keep(run: Run) -> None:
        runs.append(run)
        runs.sort(key=lambda r: r["seed"])
        _write(partial, {"fingerprint": claim.fingerprint, "expect": claim.expect.to_json(), "runs": runs})
        report(f"claim {claim.id}", len(runs), claim.seeds)

    _measure(claim, missing, workers, keep)
    record = judged(claim, runs)
    _write(result_file(claim.id, folder), record.to_json())
    partial.unlink(missing_ok=True)
    return record


def judged(claim: Claim, runs: list[Run]) -> Record:
    """The record of a claim from the figures of its seeds."""
    found = judge(claim.expect, [(r["method"], r["against"]) for r in runs])
    return Record(
        id=claim.id,
        method=claim.method,
        name=claim.name,
        against=claim.against,
        claim=claim.sentence,
        expect=claim.expect,
        differs=claim.differs,
        runs=tuple(runs),
        differences=found.differences,
        mean=found.mean,
        interval=(found.low, found.high),
        verdict=found.verdict,
        versions={"secateur": __version__, "torch": torch.__version__, "python": platform.python_version()},
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        fingerprint=claim.fingerprint,
    )


def _is_of(record: Record, claim: Claim) -> bool:
    same = (record.fingerprint, record.expect) == (claim.fingerprint, claim.expect)
    return same and len(record.runs) == claim.seeds


def _read_partial(file: Path, claim: Claim) -> list[Run]:
    """The seeds that an earlier run of this very code left behind; a damaged file counts as none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if (found["fingerprint"], found["expect"]) == (claim.fingerprint, claim.expect.to_json()):
            return [r for r in found["runs"] if r["seed"] < claim.seeds]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return []


def _write(file: Path, data: Mapping[str, Any]) -> None:
    write_atomically(file, (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())


def _measure(claim: Claim, seeds: list[int], workers: int, keep: Callable[[Run], None]) -> None:
    """Measure seeds here or in processes; `keep` gets each as soon as it is there."""
    if workers < 1:
        raise RecipeError(f"workers is {workers}", where="run_claim(workers=...)", mend="1 or more processes")
    if workers == 1 or len(seeds) < 2:
        for seed in seeds:
            keep(measured(claim, seed))
        return
    errors: dict[int, str] = {}

    def answered(index: int, answer: Run) -> None:
        if "error" in answer:
            errors[seeds[index]] = answer["error"]
        else:
            keep(answer)

    jobs = [{"module": claim.measure.__module__, "id": claim.id, "seed": seed} for seed in seeds]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    run_jobs([sys.executable, "-m", "secateur.claims.worker"], jobs, workers, answered, environment=environment)
    for seed, what in sorted(errors.items()):
        raise RecipeError(what, where=f"claim {claim.id}, seed {seed}", mend="run it with one worker to see where")


def measured(claim: Claim, seed: int) -> Run:
    """Both sides of one seed. Each starts from the same state of the global generators."""
    sides, seconds = {}, {}
    for side, name in (("method", claim.method), ("against", claim.against)):
        begun = time.process_time()
        with seeded(seed), _one_thread():
            sides[side] = as_measures(claim.measure(seed, name), claim.id)
        seconds[side] = round(time.process_time() - begun, 2)
    return {"seed": seed, **sides, "cpu_s": seconds}


def as_measures(found: Mapping[str, Any] | Result, where: str) -> dict[str, float]:
    """Measures as plain floats; of a `Result` its metrics and real sparsity."""
    if isinstance(found, Result):
        found = found.metrics | {"sparsity": found.sparsity["sparsity"]}
    try:
        return {str(name): float(value) for name, value in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise RecipeError(
            f"it gave {type(found).__name__}: {error}", where=where, mend="give a dict of numbers, or an sc.Result"
        ) from error


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
