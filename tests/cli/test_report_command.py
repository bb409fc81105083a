"""`secateur report` as a user meets it."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from commands import secateur


@pytest.fixture
def folder(tmp_path):
    place = Path(__file__).parents[1] / "report" / "synthetic.py"
    spec = importlib.util.spec_from_file_location("synthetic", place)
    synthetic = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(synthetic)
    synthetic.write_comparison(tmp_path / "runs" / "compare", methods=("lamp",), sparsities=(0.9,), seeds=1)
    return tmp_path


def test_the_example_of_its_help_works_and_json_tells_what_was_written(folder):
    text = " ".join(secateur("report", "--help").stdout.split())
    words = re.search(r"Example: secateur (.*?) Arguments:", text)[1].split()
    done = secateur(*words, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["bytes"] == (folder / told["report"]).stat().st_size and told["report"] == "report.html"


def test_nothing_to_report_is_one_clear_message(tmp_path):
    done = secateur("report", "nowhere", cwd=tmp_path)
    assert done.returncode == 1 and not done.stdout and not list(tmp_path.iterdir())
    assert "there is no such folder" in done.stderr and "mend" in done.stderr and "Traceback" not in done.stderr
