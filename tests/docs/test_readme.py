"""The README is run: every Python block, every shell command that is ours; its table is up to date."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.S)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, code in BLOCKS
    if language == "bash"
    for line in code.splitlines()
    if line.startswith("secateur ")
]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def assert_runs(*arguments, cwd=None):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_blocks_run(code, tmp_path):
    (tmp_path / "block.py").write_text(code)
    assert_runs("-W", "error::DeprecationWarning", "block.py", cwd=tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, tmp_path):
    words = [str(ROOT / w) if w.startswith("examples/") else w for w in command.split()[1:]]
    assert_runs("-m", "secateur", *words, cwd=tmp_path)


def test_generated_pages_are_up_to_date():
    assert_runs(str(ROOT / "docs" / "build.py"), "--check")


def test_the_method_of_the_readme_has_at_most_thirty_lines_of_code():
    own = next(code for code in PYTHON if "@method(" in code)
    assert len([line for line in own.split("result =")[0].splitlines() if line.strip()]) <= 30
