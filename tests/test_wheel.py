"""The wheel: builds, holds the cards, and works where there is no source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_it_holds_the_package_its_types_and_the_cards(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {"secateur/__init__.pyi", "secateur/py.typed", "secateur/cards/gmp.md"} <= set(names)
    assert not [n for n in names if n.startswith(("tests/", "benchmarks/"))]


def test_it_works_away_from_the_source_tree(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import secateur; print(secateur.__file__); "
    code += "sys.argv = ['secateur', 'card', 'gmp']; from secateur.cli.main import app; app()"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout and "Zhu & Gupta" in done.stdout
