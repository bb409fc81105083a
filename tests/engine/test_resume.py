"""A run folder survives a kill at any moment: what comes out is what an unbroken run gives, to the last bit.

The kills are real: `resume_driver.py` ends itself by SIGKILL at seeded moments. Many more: `benchmarks/kill.py`.
"""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from resume_driver import left_over
from torch import nn

import commands
import secateur as sc
from secateur.core.progress import showing
from secateur.engine.runfolder import RunFolder
from secateur.engine.training import Trainer
from secateur.tasks import builtin_task

DRIVER = Path(__file__).with_name("resume_driver.py")


@dataclass
class Story:
    """What the driver told of one unbroken run and of one that was killed again and again."""

    unbroken: list[dict[str, Any]]
    broken: list[dict[str, Any]]
    kills: dict[str, int]
    folder: Path


def kills_of(case: str) -> list[str]:
    """A kill in each kind of phase, in the order of the run, each at a moment drawn for this case."""
    draw = random.Random(case).randint
    after = [f"recalibrate:{draw(1, 5)}"] if case == "distill" else []
    return [
        f"write:{draw(1, 3)}",
        f"train:{draw(2, 4)}",
        f"prune:{draw(1, 2)}",
        f"write:{draw(4, 9)}",
        f"heal:{draw(2, 4)}",
        *after,
        f"save:{draw(1, 4)}",
        "save:6",
    ]


def drive(case: str, folder: Path, out: Path, *flags: str) -> dict[str, int]:
    """Run the driver; gives how each killed process ended."""
    done = commands.script(DRIVER, case, folder, out, *flags)
    assert done.returncode == 0, done.stderr
    return {line["kill"]: line["status"] for line in map(json.loads, done.stdout.splitlines())}


def told(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.fixture(scope="module", params=["gmp", "imp", "distill", "perp"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    case, place = request.param, tmp_path_factory.mktemp(request.param)
    drive(case, place / "unbroken", place / "unbroken.out", "--finish")
    kills = drive(case, place / "broken", place / "broken.out", *(f"--kill={k}" for k in kills_of(case)), "--finish")
    return Story(told(place / "unbroken.out"), told(place / "broken.out"), kills, place / "broken")


def test_every_kill_of_the_story_hit(story):
    assert set(story.kills.values()) == {-signal.SIGKILL}


def test_a_killed_run_ends_in_the_same_state_of_training(story):
    states = {line["state"] for line in story.unbroken + story.broken if "state" in line}
    assert len(states) == 1


def test_a_killed_run_gives_the_same_result(story):
    results = {line["result"] for line in story.unbroken + story.broken if "result" in line}
    assert len(results) == 1


def test_no_half_written_file_outlives_the_run(story):
    assert sorted(p.name for p in story.folder.iterdir()) == ["result", "run.json"]


SWEEPS = {
    "train": ["train:9", "write:8", "save:2"],
    "compare": ["train:20", "write:12", "prune:1", "heal:2", "recalibrate:1", "save:2"],
}


@pytest.fixture(scope="module", params=SWEEPS)
def sweep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    case, place = request.param, tmp_path_factory.mktemp(request.param)
    drive(case, place / "unbroken", place / "unbroken.out", "--finish")
    kills = drive(case, place / "broken", place / "broken.out", *(f"--kill={k}" for k in SWEEPS[case]), "--finish")
    return Story(told(place / "unbroken.out"), told(place / "broken.out"), kills, place / "broken")


def test_every_kill_of_the_sweep_hit(sweep):
    assert set(sweep.kills.values()) == {-signal.SIGKILL}


def test_a_killed_sweep_trains_every_cell_to_the_same_state(sweep):
    assert {line["state"] for line in sweep.broken if "state" in line} <= {
        line["state"] for line in sweep.unbroken if "state" in line
    }


def test_a_killed_sweep_has_the_same_rows_and_tensors(sweep):
    results = [line["result"] for line in sweep.unbroken + sweep.broken if "result" in line]
    assert len(results) == 2 and len(set(results)) == 1


def test_a_killed_sweep_leaves_no_half_written_file(sweep):
    assert left_over(sweep.folder) == []


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def task(**changes: Any) -> sc.Task:
    training = sc.Training(epochs=1, optimizer="sgd", lr=0.05)
    return sc.Task(**{**vars(builtin_task("digits")), "training": training, "batch_size": 260} | changes)


def prune(folder: Path, model: nn.Module | None = None, method: Any = "gmp", **changes: Any) -> sc.Result:
    arguments: dict[str, Any] = {"sparsity": 0.5, "task": task(), "run": folder, "save_every_s": 0} | changes
    return sc.prune(mlp() if model is None else model, method, **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Interrupted:
    """A reporter that presses Ctrl-C at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, title: str, done: int, total: int) -> None:
        if done == self.at:
            raise KeyboardInterrupt


def interrupted(folder: Path, at: int = 3, **changes: Any) -> None:
    with showing(Interrupted(at)), pytest.raises(KeyboardInterrupt):
        prune(folder, **changes)


def test_ctrl_c_leaves_a_folder_that_goes_on_to_the_same_weights(tmp_path):
    whole = prune(tmp_path / "whole")
    interrupted(tmp_path / "run")
    resumed = prune(tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(whole.subject.parameters(), resumed.subject.parameters(), strict=True))


def test_after_ctrl_c_only_the_steps_that_are_missing_are_trained(tmp_path):
    interrupted(tmp_path / "run", at=3)
    steps: list[int] = []
    with showing(lambda title, done, total: steps.append(done)):
        prune(tmp_path / "run")
    assert steps == [3, 4, 5]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"sparsity": 0.6}, "sparsity is 0.5 there and 0.6 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"method": "global-mp"}, "method is 'gmp' there and 'global-mp' here"),
        ({"end": 0.5}, "recipe is"),
        ({"task": task(training=sc.Training(epochs=2))}, "training is"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}, "weights is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_the_folder_of_another_run_is_refused_by_what_differs(tmp_path, changes, difference):
    interrupted(tmp_path / "run")
    with pytest.raises(sc.CheckpointError, match=difference):
        prune(tmp_path / "run", **changes)


def test_a_refused_folder_is_left_whole(tmp_path):
    interrupted(tmp_path / "run")
    before = contents(tmp_path / "run")
    with pytest.raises(sc.CheckpointError):
        prune(tmp_path / "run", seed=1)
    assert contents(tmp_path / "run") == before


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(sc.CheckpointError, match="not empty and holds no run"):
        prune(tmp_path)


def test_a_finished_run_does_not_train_again(tmp_path, monkeypatch):
    prune(tmp_path / "run")
    monkeypatch.setattr(Trainer, "fit_", lambda self: pytest.fail("it trained again"))
    assert prune(tmp_path / "run").provenance["train_steps"] == 5


@pytest.mark.parametrize("structure", ["weights", "2:4", "4x2"])
def test_a_finished_run_gives_its_result_again_bit_for_bit(tmp_path, structure):
    recipe = sc.Recipe(
        structure=sc.structures.structure(structure), score=sc.scores.Magnitude(), recovery=(sc.recovery.FineTune(),)
    )
    first = prune(tmp_path / "run", method=recipe)
    again = prune(tmp_path / "run", method=recipe)
    assert first.subject.state_dict().keys() == again.subject.state_dict().keys()
    assert all(torch.equal(t, again.subject.state_dict()[n]) for n, t in first.subject.state_dict().items())
    assert first.keep == again.keep
    assert first.masks.keys() == again.masks.keys()
    assert (first.before, first.after, first.history) == (again.before, again.after, again.history)
    assert first.provenance == again.provenance


def test_a_finished_run_on_samples_gives_the_same_subset_again(tmp_path):
    data = task().train
    recipe = sc.Recipe(structure=sc.structures.Samples(), score=sc.scores.Random())
    first, again = (sc.prune(data, recipe, keep=0.1, run=tmp_path / "run") for _ in range(2))
    assert again.subject.indices == first.subject.indices


FORMULA = """
import secateur as sc, sys, torch
model = torch.nn.Linear(4, 4)
torch.nn.init.constant_(model.weight, 1.0); torch.nn.init.zeros_(model.bias)
recipe = sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Custom(lambda weight: weight.abs()))
sc.prune(model, recipe, sparsity=0.5, run=sys.argv[1])
"""


def test_a_formula_of_ones_own_does_not_make_every_process_another_run(tmp_path):
    for padding in (10**5, 10**6):  # so that the function lies elsewhere in memory
        command = [sys.executable, "-c", f"pad = [0] * {padding}\n" + FORMULA, str(tmp_path / "run")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_another_formula_is_another_run(tmp_path):
    def pruned_by(formula: Callable[[torch.Tensor], torch.Tensor]) -> None:
        recipe = sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Custom(formula))
        sc.prune(mlp(), recipe, sparsity=0.5, run=tmp_path / "run")

    pruned_by(lambda weight: weight.abs())
    with pytest.raises(sc.CheckpointError, match="recipe is"):
        pruned_by(lambda weight: weight.square())


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def deeply_nested(file: Path) -> None:
    from safetensors.torch import save

    file.write_bytes(save({"0": torch.zeros(1)}, metadata={"tree": '{"l":[' * 10**5}))


def of_another_form(file: Path) -> None:
    from safetensors.torch import save

    file.write_bytes(save({"0": torch.zeros(1)}, metadata={"tree": "[1, 2]"}))


def without_its_parts(file: Path) -> None:
    from safetensors.torch import save

    file.write_bytes(save({"0": torch.zeros(1)}, metadata={"tree": '{"d": [[{"v": "leg"}, {"v": 0}]]}'}))


@pytest.mark.parametrize("damage", [cut, emptied, deeply_nested, of_another_form, without_its_parts])
def test_a_damaged_state_is_a_clear_error(tmp_path, damage: Callable[[Path], None]):
    interrupted(tmp_path / "run")
    damage(tmp_path / "run" / "state.safetensors")
    with pytest.raises(sc.CheckpointError, match=r"state\.safetensors"):
        prune(tmp_path / "run")


def test_a_run_that_lost_its_snapshot_says_so(tmp_path):
    changes = {"method": "imp", "share": 0.3, "rewind_to": 1}
    interrupted(tmp_path / "run", at=3, **changes)
    (tmp_path / "run" / "snapshot-1.safetensors").unlink()
    with pytest.raises(sc.CheckpointError, match="snapshot"):
        prune(tmp_path / "run", **changes)


@pytest.mark.parametrize("damage", [cut, emptied, lambda file: file.write_text('{"a":' * 10**5)])
def test_a_damaged_run_file_is_a_clear_error(tmp_path, damage: Callable[[Path], None]):
    interrupted(tmp_path / "run")
    damage(tmp_path / "run" / "run.json")
    with pytest.raises(sc.CheckpointError, match=r"run\.json"):
        prune(tmp_path / "run")


def test_what_a_killed_writer_left_is_swept_away_when_the_run_goes_on(tmp_path):
    with RunFolder(tmp_path / "run", {"a": 1}) as folder:
        (folder.path / ".state.safetensors.x1y2").write_bytes(b"half")
        (folder.path / ".result.x1y2").mkdir()
    RunFolder(tmp_path / "run", {"a": 1}).close()
    assert [p.name for p in folder.path.iterdir()] == ["run.json"]


def test_a_saved_result_is_not_overwritten_unasked(tmp_path):
    prune(tmp_path / "run").save(tmp_path / "pruned")
    before = contents(tmp_path / "pruned")
    other = prune(tmp_path / "other", seed=1)
    with pytest.raises(sc.CheckpointError, match="it is there already"):
        other.save(tmp_path / "pruned")
    assert contents(tmp_path / "pruned") == before


@pytest.fixture(scope="module")
def saves(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What was found after a kill at each moment of saving over an old result."""
    done = commands.script(DRIVER.with_name("save_driver.py"), tmp_path_factory.mktemp("saves"))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_killed_save_leaves_the_old_result_or_the_new_one(saves):
    assert [s["after_kill"] for s in saves] == ["old"] * 5 + ["new"]


def test_after_a_killed_save_the_next_one_works(saves):
    assert {s["after_next_save"] for s in saves} == {"new"}


def test_the_next_save_sweeps_away_what_a_killed_one_left(saves):
    assert not any(s["left_over"] for s in saves)
