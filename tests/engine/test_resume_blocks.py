"""Pruning block by block in memory goes on, after a kill, with the block that was not finished: to the last bit."""

import signal

import blocks_driver
import pytest
import torch

from commands import forked
from secateur.calibration.order import LayerOrder
from secateur.core import CheckpointError, Plan
from secateur.engine.journal import Journal
from secateur.engine.runfolder import RunFolder


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("wanda", 0),
        ("wanda", 2),
        ("sparsegpt", 1),
        ("owl", 2),
        ("healed", 2),
        ("refined", 2),
        ("stepwise", 4),
        ("flap", 1),
        ("slicegpt", 1),
        ("slicegpt", 2),
    ],
)
def test_a_killed_run_ends_as_an_unbroken_one_and_does_no_finished_block_again(name, after, tmp_path):
    died = forked(blocks_driver.prune_and_die, name, str(tmp_path / "run"), after)
    assert died.returncode == -signal.SIGKILL, died.stderr
    noted = sorted((tmp_path / "run").glob("block-*.safetensors"))
    assert len(noted) == after
    times = {file: file.stat().st_mtime_ns for file in noted}
    again, written = gone_on(name, tmp_path)
    assert {file: written[file] for file in noted} == times
    whole = blocks_driver.prune(name, tmp_path / "unbroken")
    for (key, mine), his in zip(again.subject.state_dict().items(), whole.subject.state_dict().values(), strict=True):
        assert torch.equal(mine, his), key
    assert again.keep == whole.keep and again.masks.keys() == whole.masks.keys()
    assert again.plan == whole.plan
    assert all(torch.equal(mask, whole.masks[n]) for n, mask in again.masks.items())
    for move, other in zip(again.history, whole.history, strict=True):
        assert [(r["block"], r["kept"]) for r in move["blocks"]] == [(r["block"], r["kept"]) for r in other["blocks"]]
    assert not list((tmp_path / "run").glob("block-*"))


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_descent_that_was_killed_goes_on_with_the_step_that_was_not_noted(after, tmp_path):
    died = forked(blocks_driver.note_and_die, "icbs", str(tmp_path / "run"), after)
    assert died.returncode == -signal.SIGKILL, died.stderr
    steps = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("secateur.solvers.refining.block_descent.report", lambda _, done, total: steps.append(done))
        again = blocks_driver.prune("icbs", tmp_path / "run")
        assert steps == list(range(after + 1, 6))
        whole = blocks_driver.prune("icbs", tmp_path / "unbroken")
    assert again.keep == whole.keep and again.history[0]["refined"] == whole.history[0]["refined"]
    assert not list((tmp_path / "run").glob("notes*"))


def gone_on(name, place):
    """The run that goes on, and when each block was written last."""
    written = {}
    clear = RunFolder.clear

    def looking(self):
        written.update({file: file.stat().st_mtime_ns for file in self.path.glob("block-*.safetensors")})
        clear(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunFolder, "clear", looking)
        return blocks_driver.prune(name, place / "run"), written


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_order_of_layers_that_was_killed_goes_on_with_the_round_that_was_not_noted(after, tmp_path):
    died = forked(blocks_driver.note_and_die, "finercut", str(tmp_path / "run"), after)
    assert died.returncode == -signal.SIGKILL, died.stderr
    rounds, measured = [], LayerOrder._apart

    def counted(self, gone, *arguments):
        rounds.append(len(gone))
        return measured(self, gone, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LayerOrder, "_apart", counted)
        again = blocks_driver.prune("finercut", tmp_path / "run")
        assert rounds == list(range(after, rounds[-1] + 1)) and len(rounds) > 1
        whole = blocks_driver.prune("finercut", tmp_path / "unbroken")
    assert again.keep == whole.keep and again.plan == whole.plan


@pytest.mark.parametrize(
    "state", [{"gone": [(9, 0)], "apart": {}}, {"gone": [(0, 0), (0, 0)], "apart": {}}, {"gone": []}, {"gone": 3}]
)
def test_notes_of_other_layers_are_refused(state, tmp_path):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunFolder, "read_notes", lambda *_: state)
        with pytest.raises(CheckpointError, match=r"order of layers does not fit(?s:.*)start again"):
            blocks_driver.prune("finercut", tmp_path / "run")


@pytest.mark.parametrize("change", ["names", "shapes", "parts", "place"])
def test_a_block_of_another_model_is_refused_by_its_file_and_changes_nothing(change, tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    model = torch.nn.Linear(3, 2)
    before = model.weight.detach().clone()
    state = {"place": [0, 0], "plan": Plan().to_json(), "keep": {}, "masks": {}, "facts": [], "tensors": {}}
    if change == "names":
        state["tensors"] = {"weight": torch.ones(2, 3), "other": torch.ones(2)}
    elif change == "shapes":
        state["tensors"] = {"weight": torch.ones(2, 3), "bias": torch.ones(5)}
    else:
        state["tensors"] = {"weight": torch.ones(2, 3)}
        if change == "place":
            state["place"] = [0, 1]
        else:
            del state["facts"]
    folder.write_block(0, 0, state)
    with pytest.raises(CheckpointError, match=r"block 0 is none of this model(?s:.*)start again"):
        Journal(folder, model, hold=False).restored_((0, 0))
    assert torch.equal(model.weight, before)
    folder.close()


def test_what_was_repaired_outside_the_block_comes_back_too(tmp_path):
    folder, model = RunFolder(tmp_path / "run", {}), torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    Journal(folder, model, hold=False).finish((0, 0), "0", {"0.weight", "1.bias"}, {}, {}, [], Plan())
    other = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    Journal(folder, other, hold=False).restored_((0, 0))
    same = {name for name, value in model.state_dict().items() if torch.equal(value, other.state_dict()[name])}
    assert same == {"0.weight", "0.bias", "1.bias"}
    folder.close()
