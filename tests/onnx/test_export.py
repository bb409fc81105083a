"""Models of torch as ONNX files: every pruned one, verified; the command line from file to file."""

import json

import pytest
import torch
from torch import nn

import secateur as sc
from commands import secateur
from secateur.cli.example import example_for
from secateur.core import NumericsError, RecipeError, SubjectError
from secateur.engine.families import families_of
from secateur.onnx.verify import check_same, outputs_of, run_session, session_of


def digits():
    torch.manual_seed(0)
    return sc.tasks.builtin_model("digits-cnn").eval()


@pytest.mark.slow
def test_a_pruned_model_is_exported_for_any_number_of_samples(tmp_path):
    x = torch.randn(1, 1, 8, 8)
    result = sc.prune(digits(), "magnitude", structure="channels", macs=0.5, example=x)
    made = sc.export(result, tmp_path / "small.onnx")
    assert made.any_batch and made.gap < 1e-4 and made.bytes == made.file.stat().st_size
    for count in (1, 5):
        given = torch.randn(count, 1, 8, 8)
        name = session_of(made.file).get_inputs()[0].name
        check_same(outputs_of(result.subject, given), run_session(session_of(made.file), {name: given}), "small.onnx")
    assert result.save(tmp_path / "again.onnx").is_file()
    again = sc.prune(made.file, "magnitude", structure="channels", macs=0.8)
    assert again.after["params"] < result.after["params"]


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)

    def forward(self, left, right):
        return {"sum": self.a(left) + right, "mean": left.mean()}


@pytest.mark.slow
def test_arguments_are_given_by_name_and_outputs_may_be_several(tmp_path):
    made = sc.export(Two(), tmp_path / "two.onnx", {"left": torch.randn(2, 4), "right": torch.randn(2, 3)})
    assert {i.name for i in session_of(made.file).get_inputs()} == {"left", "right"}


class Fixed(nn.Module):
    def forward(self, x):
        return x.reshape(3, -1) * 2


@pytest.mark.slow
def test_a_model_of_one_batch_size_is_exported_for_that(tmp_path, caplog):
    made = sc.export(Fixed(), tmp_path / "fixed.onnx", torch.randn(3, 4))
    assert not made.any_batch and "3 samples at once" in caplog.text


def test_without_an_example_it_says_so(tmp_path):
    with pytest.raises(RecipeError, match=r"no example[\s\S]*--input 1,3,32,32"):
        sc.export(nn.Linear(2, 2), tmp_path / "model.onnx")
    with pytest.raises(SubjectError, match="no model"):
        sc.export([1], tmp_path / "model.onnx", torch.ones(1))


@pytest.mark.slow
def test_what_is_not_verified_is_not_left_behind(tmp_path, monkeypatch):
    def other(*_):
        raise NumericsError("it differs", where="here", mend="nothing")

    monkeypatch.setattr("secateur.onnx.exporting.check_same", other)
    with pytest.raises(NumericsError):
        sc.export(nn.Linear(2, 2), tmp_path / "model.onnx", torch.ones(1, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_line_goes_from_file_to_file(tmp_path):
    dense, small, folder = tmp_path / "model.onnx", tmp_path / "smaller.onnx", tmp_path / "folder"
    x = torch.randn(1, 1, 8, 8)
    sc.prune(digits(), "magnitude", structure="channels", macs=0.9, example=x).save(folder)
    told = json.loads(secateur("export", folder, "-o", dense, "--json", check=0).stdout)
    assert told["any_batch"] and told["bytes"] == dense.stat().st_size
    secateur("prune", dense, "--method", "spa", "--macs", "0.5", "-o", small, check=0)
    assert small.stat().st_size < dense.stat().st_size
    model = sc.onnx.read(small)
    assert families_of(model, *example_for(model, str(small), None, None)).families
    small.write_bytes(small.read_bytes()[:999])
    broken = secateur("inspect", small, "--structure")
    assert broken.returncode == 1 and "truncated" in broken.stderr
