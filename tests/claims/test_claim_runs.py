"""Running claims: paired seeds, resuming after a kill, storing, and one claim end to end on digits."""

import importlib
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

import secateur as sc
from secateur.claims.claim import _loaded, claim, get
from secateur.claims.run import run_claim
from secateur.claims.store import read_record
from secateur.claims.verdict import higher, judge
from secateur.core import CheckpointError, NumericsError, RecipeError
from secateur.core.progress import showing
from secateur.tasks import builtin_task
from secateur.tasks.models import digits_mlp

calls: list[tuple[int, str]] = []


def counted(seed, method):
    """The first side is better by one to a bit more than one."""
    calls.append((seed, method))
    return {"accuracy": 1 + 0.01 * seed if method == "invented" else 0.0, "draw": float(torch.rand(()))}


@pytest.fixture
def make():
    """Registers a function as a claim of an invented method; forgets it and its calls afterwards."""
    calls.clear()
    before = dict(_loaded)

    def register(measure=counted, **settings):
        claim("invented", **({"against": "baseline", "expect": higher("accuracy", by=0.5), "seeds": 4} | settings))(
            measure
        )
        return f"invented.{measure.__name__}"

    yield register
    _loaded.clear()
    _loaded.update(before)


def test_every_seed_measures_both_sides_from_the_same_random_state(make, tmp_path):
    [record] = run_claim(make(), folder=tmp_path)
    assert calls == [(s, m) for s in range(4) for m in ("invented", "baseline")]
    assert all(r["method"]["draw"] == r["against"]["draw"] for r in record.runs)
    assert len({r["method"]["draw"] for r in record.runs}) == 4
    assert record.verdict == "holds" and record.mean == pytest.approx(1.015)


def test_global_generators_are_left_as_they_were(make, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run_claim(make(), folder=tmp_path)
    assert torch.equal(torch.rand(2), expected)


def test_what_is_stored_is_what_was_returned(make, tmp_path):
    [record] = run_claim(make(), folder=tmp_path)
    assert read_record(record.id, tmp_path) == record
    assert [p.name for p in tmp_path.iterdir()] == ["invented.counted.json"]


def test_a_claim_that_is_measured_is_not_measured_again_unless_asked(make, tmp_path):
    run_claim(make(), folder=tmp_path)
    run_claim("invented.counted", folder=tmp_path)
    assert len(calls) == 8
    run_claim("invented.counted", folder=tmp_path, again=True)
    assert len(calls) == 16


class Killed(BaseException):
    pass


def dies_at_seed_2(seed, method):
    """Dies the first time it gets to seed 2."""
    calls.append((seed, method))
    if (seed, method) == (2, "invented") and calls.count((seed, method)) == 1:
        raise Killed
    return {"accuracy": float(method == "invented")}


def test_a_killed_run_goes_on_with_the_missing_seeds(make, tmp_path):
    id = make(dies_at_seed_2)
    with pytest.raises(Killed):
        run_claim(id, folder=tmp_path)
    assert read_record(id, tmp_path) is None, "half a claim has no verdict"
    [record] = run_claim(id, folder=tmp_path)
    assert [seed for seed, _ in calls] == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert [r["seed"] for r in record.runs] == [0, 1, 2, 3]
    assert not list(tmp_path.glob("*.part.json"))


SCRIPT = """
import os, signal, sys
from pathlib import Path
from secateur.claims.claim import claim
from secateur.claims.run import run_claim
from secateur.claims.verdict import higher

folder = Path(sys.argv[1])

@claim("invented", against="baseline", seeds=4, expect=higher("accuracy"))
def is_killed(seed, method):
    "It is killed once, from outside as it were."
    with (folder / "calls").open("a") as file:
        file.write(f"{seed}")
    if seed == 2 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"accuracy": 1.0 + seed if method == "invented" else 0.0}

run_claim("invented.is_killed", folder=folder)
"""


def test_a_process_that_is_killed_outright_loses_no_finished_seed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(tmp_path)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "calls").read_text() == "00112" + "2233"
    record = read_record("invented.is_killed", tmp_path)
    assert record is not None and [r["method"]["accuracy"] for r in record.runs] == [1, 2, 3, 4]


MODULE = """
import os
from secateur.claims.claim import claim
from secateur.claims.verdict import higher

@claim("invented", against="baseline", seeds=3, expect=higher("accuracy"))
def tells_its_process(seed, method):
    "It runs elsewhere."
    return {"accuracy": seed + (method == "invented"), "process": os.getpid()}
"""


def test_seeds_can_run_in_processes_of_their_own(make, tmp_path, monkeypatch):
    (tmp_path / "claim_in_processes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("claim_in_processes")
    [record] = run_claim("invented.tells_its_process", workers=2, folder=tmp_path)
    assert [r["seed"] for r in record.runs] == [0, 1, 2] and record.differences == (1, 1, 1)
    assert os.getpid() not in {r["method"]["process"] for r in record.runs}
    with pytest.raises(RecipeError, match="workers is 0"):
        run_claim("invented.tells_its_process", workers=0, folder=tmp_path, again=True)


@pytest.mark.parametrize(
    "damage", [lambda d: d | {"fingerprint": "other"}, lambda d: d | {"expect": {}}, lambda d: {}, lambda d: None]
)
def test_seeds_of_other_code_or_a_damaged_file_are_measured_anew(make, tmp_path, damage):
    id = make(dies_at_seed_2)
    with pytest.raises(Killed):
        run_claim(id, folder=tmp_path)
    [part] = tmp_path.glob("*.part.json")
    changed = damage(json.loads(part.read_text()))
    part.write_text("{" if changed is None else json.dumps(changed))
    run_claim(id, folder=tmp_path)
    assert calls[5:7] == [(0, "invented"), (0, "baseline")]


def test_an_old_result_survives_until_the_new_one_is_whole(make, tmp_path):
    id = make(dies_at_seed_2)
    with pytest.raises(Killed):
        run_claim(id, folder=tmp_path)
    [first] = run_claim(id, folder=tmp_path)
    calls.clear()
    with pytest.raises(Killed):
        run_claim(id, folder=tmp_path, again=True)
    assert read_record(id, tmp_path) == first


def test_progress_counts_seeds(make, tmp_path):
    seen = []
    with showing(lambda *what: seen.append(what)):
        run_claim(make(seeds=2), folder=tmp_path)
    assert seen == [("claim invented.counted", 1, 2), ("claim invented.counted", 2, 2)]


def gives_nan(seed, method):
    """Gives what is no number."""
    return {"accuracy": float("nan")}


def test_a_figure_that_is_not_finite_stores_no_result(make, tmp_path):
    id = make(gives_nan)
    with pytest.raises(NumericsError):
        run_claim(id, folder=tmp_path)
    assert read_record(id, tmp_path) is None


def gives_text(seed, method):
    """Gives what is no number."""
    return {"accuracy": "high"}


def test_measures_that_are_no_numbers_are_named(make, tmp_path):
    with pytest.raises(RecipeError, match=r"gives_text"):
        run_claim(make(gives_text), folder=tmp_path)


def test_a_damaged_result_says_what_to_do(make, tmp_path):
    id = make()
    (tmp_path / f"{id}.json").write_text('{"id": 1}')
    with pytest.raises(CheckpointError, match="run the claim again"):
        run_claim(id, folder=tmp_path)


def test_a_claim_of_one_seed_must_be_exact(make, tmp_path):
    with pytest.raises(RecipeError, match="no interval"):
        make(seeds=1)
    [record] = run_claim(make(exact=True), folder=tmp_path)
    assert len(record.runs) == 1 and record.interval == (record.mean, record.mean)


def claims_nothing(seed, method):
    return {}


def test_a_claim_needs_a_sentence(make):
    with pytest.raises(RecipeError, match="docstring"):
        make(claims_nothing)


def test_an_unknown_claim_suggests_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'lamp'"):
        run_claim("lampp")
    with pytest.raises(RecipeError, match=r"gmp\.cubic_beats_one_shot"):
        get("gmp.cubic_beats_one_shoot")


def beats_random_scores(seed, method):
    """Small weights can be spared where random ones cannot."""
    task = builtin_task("digits-flat").fork(seed)
    model = sc.prune(digits_mlp(), "magnitude", sparsity=0.0, heal=2, task=task, seed=seed).subject
    if method == "invented":
        return sc.prune(model, "magnitude", sparsity=0.8, task=task, seed=seed)
    random = sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Random())
    return sc.prune(model, random, sparsity=0.8, task=task, seed=seed)


def test_a_claim_on_digits_end_to_end(make, tmp_path):
    [record] = run_claim(make(beats_random_scores, seeds=2, expect=higher("accuracy")), folder=tmp_path)
    assert record.mean > 0.2
    assert record.runs[0]["method"]["sparsity"] == pytest.approx(0.8, abs=1e-4)
    again = judge(record.expect, [(r["method"], r["against"]) for r in record.runs])
    assert (again.verdict, again.differences) == (record.verdict, record.differences)
    assert set(record.versions) == {"secateur", "torch", "python"} and record.date.startswith("20")
    assert record.runs[0]["cpu_s"]["method"] > 0
