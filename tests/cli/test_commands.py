"""The command line as a user meets it: output, exit codes, JSON, errors, Ctrl-C; each command in its own process."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import secateur as sc
from commands import secateur

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


CUT = ("prune", "builtin:digits-cnn", "-m", "magnitude", "--structure", "channels")


def test_methods_as_json_tell_what_a_script_needs():
    rows = json.loads(secateur("methods", "--json", check=0).stdout)
    assert {"id", "title", "year", "paper", "prunes", "when", "data", "verdict"} <= rows[0].keys()
    assert [r["id"] for r in rows] == sorted(sc.core.registry.entries())


def test_listing_methods_imports_no_torch():
    code = "import sys; sys.argv = ['secateur', 'methods']; from secateur.cli.main import app\n"
    code += "app(standalone_mode=False); sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, env=ENVIRONMENT, check=False).returncode == 0
    )


def test_a_card_has_the_verdict_before_everything_else():
    lines = [line for line in secateur("card", "gmp", check=0).stdout.splitlines() if line.strip()]
    assert re.search(r"[Hh]old|[Uu]ndecided|[Nn]ot measured", lines[1])


def test_a_card_of_an_unknown_method_suggests_the_nearest():
    done = secateur("card", "gpm", check=2)
    assert "did you mean 'gmp'?" in done.stderr and not done.stdout


def test_inspect_shows_shapes_macs_and_shares():
    out = secateur("inspect", "builtin:digits-cnn", "--input", "1,1,8,8", check=0).stdout
    assert "conv2.weight" in out and "32x16x3x3" in out and "73.7k" in out and "19.2%" in out


def test_prune_saves_a_folder_that_loads_and_verifies(tmp_path):
    out = tmp_path / "small"
    arguments = ("prune", "builtin:digits-cnn", "-t", "builtin:digits", "-m", "lamp", "-s", "0.8", "-o", out, "--json")
    found = json.loads(secateur(*arguments, check=0).stdout)
    assert found["sparsity"]["kept"] == round(0.2 * found["sparsity"]["units"])
    assert found["after"]["metrics"].keys() >= {"accuracy", "loss"}
    weight = sc.load(out).conv3.weight
    assert (weight == 0).float().mean() > 0.5
    checked = json.loads(secateur("inspect", out, "--verify", "--json", check=0).stdout)
    assert checked["verified"] == {"identical": True, "max_difference": 0.0}


def test_what_prune_cuts_out_it_tells_as_costs_and_the_folder_verifies(tmp_path):
    out = tmp_path / "small"
    told = secateur(*CUT, "--macs", "0.5", "--input", "1,1,8,8", "-o", out, check=0).stdout
    shares = dict(re.findall(r"^(parameters|MACs|bytes) .* \((.*)%\)$", told, flags=re.M))
    assert shares.keys() == {"parameters", "MACs", "bytes"} and 48 < float(shares["MACs"]) < 52
    assert re.search(r"^units +\d+ of 112 stay$", told, flags=re.M) and "sparsity" not in told
    assert sc.load(out).conv3.out_channels < 64
    checked = json.loads(secateur("inspect", out, "--verify", "--json", check=0).stdout)
    assert checked["verified"]["identical"] is True


def test_a_recipe_file_cuts_too(tmp_path):
    text = "model: builtin:digits-mlp\ninput: 1,1,8,8\nmethod: magnitude\nstructure: hidden\nparams: 0.4\noutput: out\n"
    (tmp_path / "r.yaml").write_text(text)
    found = json.loads(secateur("run", "r.yaml", "--json", cwd=tmp_path, check=0).stdout)
    assert 0.39 < found["after"]["params"] / found["before"]["params"] < 0.41


def test_settings_on_the_command_line_are_those_of_the_method(tmp_path):
    arguments = (
        "prune",
        "builtin:digits-mlp",
        "-m",
        "magnitude",
        "-s",
        "0.5",
        "--set",
        "exclude=5",
        "-o",
        tmp_path / "a",
    )
    found = json.loads(secateur(*arguments, "--json", check=0).stdout)
    assert found["sparsity"]["per_group"].keys() == {"1.weight", "3.weight"}


def test_a_factory_in_a_file_is_a_model(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\nclass Mine(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.a = torch.nn.Linear(8, 8)\n"
        "    def forward(self, x):\n        return self.a(x)\n"
    )
    where = f"{tmp_path / 'mine.py'}:Mine"
    secateur("prune", where, "-m", "magnitude", "--structure", "2:4", "-o", tmp_path / "out", check=0)
    refused = secateur("inspect", tmp_path / "out", check=1)
    assert "--factory" in refused.stderr
    rows = json.loads(secateur("inspect", tmp_path / "out", "--factory", where, "--json", check=0).stdout)["layers"]
    assert rows[0]["sparsity"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("prune", "builtin:nothing", "-m", "lamp", "-s", "0.5", "-o", "x"), 2, "digits-cnn"),
        (("prune", "builtin:digits-mlp", "-m", "lamp", "-s", "1.5", "-o", "x"), 2, "[0, 1)"),
        (("prune", "builtin:digits-mlp", "-m", "lamp", "-s", "0.5", "-o", "x", "--set", "round=2"), 2, "'rounds'"),
        (("prune", "builtin:digits-mlp", "-m", "gmp", "-s", "0.5", "-o", "x"), 2, "there is no task"),
        (("prune", "nowhere.py:make", "-m", "lamp", "-s", "0.5", "-o", "x"), 2, "no file 'nowhere.py'"),
        (("inspect", "./nowhere"), 2, "there is no"),
        (("run", "nowhere.yaml"), 2, "cannot be read"),
        (("compare", "builtin:digits-mlp", "-t", "builtin:digits", "-m", "lamp,gpm"), 2, "did you mean 'gmp'"),
        (("compare", "builtin:digits-mlp", "-t", "builtin:digits", "-m", "lamp", "-s", "a"), 2, "list of numbers"),
        (("compare", "builtin:digits-mlp", "-t", "builtin:digits", "-m", "lamp", "--budget", "fair"), 2, "no budget"),
        (("compare", "builtin:digits-mlp", "-t", "builtin:digits", "-m", "lamp", "--engine", "spark"), 2, "no engine"),
        (("prune", "builtin:digits-mlp", "--sparsity", "0.5"), 2, "--method"),
        (("prune", "builtin:digits-mlp", "-m", "magnitude", "--macs", "0.5", "-o", "x"), 2, "no target of 'macs'"),
        ((*CUT, "--macs", "0.5", "-o", "x"), 1, "--input 1,3,32,32"),
        ((*CUT, "--macs", "0.5", "--params", "0.5", "-o", "x"), 2, "both macs and params"),
        ((*CUT, "--macs", "1.5", "--input", "1,1,8,8", "-o", "x"), 2, "the share that stays"),
        ((*CUT, "--macs", "0.5", "--input", "1,x", "-o", "x"), 2, "no list of numbers"),
        ((*CUT, "--macs", "0.5", "--input", "1,3,8,8", "-o", "x"), 1, "does not run on the example"),
        (("inspect", "builtin:digits-cnn", "--structure"), 2, "--input 1,3,32,32"),
        (("inspect", "builtin:digits-cnn", "--structure", "--input", "1,nan"), 2, "no shape"),
        (("inspect", "builtin:digits-cnn", "--structure", "--input", "99999,99999"), 2, "no shape"),
    ],
)
def test_wrong_usage_ends_with_one_clear_message(arguments, code, message, tmp_path):
    done = secateur(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr and "Traceback" not in done.stderr and not done.stdout
    assert list(tmp_path.iterdir()) == [] or arguments[0] == "compare"


def test_an_output_folder_that_is_there_is_left_whole(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    done = secateur("prune", "builtin:digits-mlp", "-m", "lamp", "-s", "0.5", "-o", out, check=1)
    assert "there already" in done.stderr
    assert [p.name for p in out.iterdir()] == ["precious.txt"]


def test_a_truncated_folder_is_refused(tmp_path):
    secateur("prune", "builtin:digits-mlp", "-m", "lamp", "-s", "0.5", "-o", tmp_path / "out", check=0)
    file = tmp_path / "out" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    done = secateur("inspect", tmp_path / "out", check=1)
    assert "truncated or edited" in done.stderr


def test_a_recipe_file_runs(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "model: builtin:digits-cnn\ntask: builtin:digits\n"
        "method: {gmp: {end: 0.5}}\nsparsity: 0.8\nheal: 1\noutput: out\n"
    )
    found = json.loads(secateur("run", "r.yaml", "--json", cwd=tmp_path, check=0).stdout)
    assert found["provenance"]["train_steps"] == 21
    assert (tmp_path / "out" / "secateur.json").is_file()


def test_the_examples_are_valid_recipes():
    folder = Path(__file__).parents[2] / "examples"
    for file in folder.glob("*.yaml"):
        assert "is a valid recipe" in secateur("run", file, "--check", check=0).stdout


def test_a_comparison_leaves_tables_and_goes_on_where_it_was(tmp_path):
    arguments = ("compare", "builtin:digits-mlp", "-t", "builtin:digits", "-m", "magnitude,lamp", "-s", "0.9")
    arguments += ("--seeds", "1", "--heal", "1", "-o", tmp_path / "c", "-w", "2")
    first = secateur(*arguments, check=0)
    assert "reloaded in a fresh process: outputs identical" in first.stdout
    rows = (tmp_path / "c" / "table.csv").read_text().splitlines()
    assert len(rows) == 4 and rows[0].startswith("method,label,tuned,sparsity,recovery")
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "cells").glob("*/row.json")}
    again = json.loads(secateur(*arguments, "--json", check=0).stdout)
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "cells").glob("*/row.json")}
    assert again["reloaded"]["identical"] is True and len(again["rows"]) == 3


MINE = """
import torch
import secateur as sc
from torch.utils.data import TensorDataset

class Mine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(6, 16), torch.nn.Linear(16, 3)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))

def task():
    g = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(64, 6, generator=g), torch.randint(3, (64,), generator=g))
    return sc.Task(train=data, test=data, training=sc.Training(epochs=2), model=Mine)
"""


def test_a_model_and_a_task_of_ones_own_file_compare_in_processes_and_verify(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    arguments = ("compare", "mine.py:Mine", "-t", "mine.py:task", "--train", "-m", "magnitude,imp", "-s", "0.5")
    done = secateur(*arguments, "--seeds", "1", "-w", "2", "--budget", "own", "-o", "c", cwd=tmp_path, check=0)
    assert "reloaded in a fresh process: outputs identical" in done.stdout


def test_an_edited_file_is_another_comparison(tmp_path):
    data = [(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))]

    def run():
        sc.compare(
            f"{tmp_path / 'mine.py'}:Mine", ["magnitude"], sparsity=0.5, task=goal, seeds=1, folder=tmp_path / "c"
        )
        return len(list((tmp_path / "c" / "cells").glob("*/row.json")))

    goal = sc.Task(train=data, test=data)
    (tmp_path / "mine.py").write_text(MINE)
    assert (run(), run()) == (2, 2)
    (tmp_path / "mine.py").write_text(MINE.replace("16", "24"))
    assert run() == 4


def test_a_failed_cell_is_a_row_and_the_others_go_on(tmp_path):
    arguments = ("compare", "builtin:digits-mlp", "-t", "builtin:digits", "-m", "magnitude", "-s", "0.5,0.9999")
    done = secateur(*arguments, "--seeds", "1", "--heal", "1", "-o", tmp_path / "c", "-w", "1", "--json", check=1)
    rows = json.loads(done.stdout)["rows"]
    assert ["error" in r for r in rows] == [False, False, True]
    assert "layer collapse" in rows[2]["error"] and "failed: magnitude 0.9999" in done.stderr


def test_ctrl_c_leaves_a_run_that_the_same_command_finishes(tmp_path):
    arguments = ["prune", "builtin:digits-cnn", "-t", "builtin:digits", "-m", "gmp", "-s", "0.9", "--heal", "30"]
    arguments += ["-o", str(tmp_path / "out"), "--run", str(tmp_path / "run")]
    command = [sys.executable, "-m", "secateur", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    for _ in range(600):
        if (tmp_path / "run" / "run.json").exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors and "Traceback" not in errors
    assert not (tmp_path / "out").exists()
    secateur(*arguments, check=0)
    assert torch.equal(sc.load(tmp_path / "out").fc.bias, sc.load(tmp_path / "run" / "result").fc.bias)


HELP = [(), ("prune",), ("export",), ("compare",), ("inspect",), ("energy",), ("methods",), ("card",), ("run",)]
HELP += [("claims",), ("claims", "list"), ("analyze",), ("analyze", "pruning-space")]


@pytest.mark.parametrize("command", [c for c in HELP if c], ids=" ".join)
def test_every_helps_example_works(command, tmp_path):
    text = " ".join(secateur(*command, "--help", check=0).stdout.split())
    example = re.search(r"Example: secateur (.*?) (?:Arguments|Options|Commands):", text)
    assert example, text
    words = example[1].split()
    root = Path(__file__).parents[2]
    words = [str(root / w) if w.startswith("examples/") else w for w in words]
    if words[:2] == ["claims", "run"]:
        pytest.skip("measuring a claim takes minutes; tests/claims runs a small one")
    if words[0] == "energy" and importlib.util.find_spec("codecarbon") is None:
        pytest.skip("needs the extra analysis")
    secateur(*words, cwd=tmp_path, check=0)


def test_a_pruning_space_is_studied_and_goes_on_with_more_samples(tmp_path):
    named = ("analyze", "pruning-space", "builtin:digits-cnn", "--task", "builtin:digits")
    arguments = (*named, "--steps", "0", "-o", "space")
    first = json.loads(secateur(*arguments, "-n", "3", "--json", cwd=tmp_path).stdout)
    assert first["samples"] == 3 and (tmp_path / first["page"]).is_file()
    more = secateur(*arguments, "-n", "4", cwd=tmp_path).stdout
    assert re.search(r"samples +4\n", more)
    assert len(json.loads((tmp_path / "space" / "samples.json").read_text())["samples"]) == 4
