"""Damaged and hostile input is refused in an error of ours, and nothing runs or is touched. Thousands more:
`benchmarks/hostile.py`, in processes of their own with limits on time and memory."""

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest


def _hostile() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hostile_inputs", Path(__file__).with_name("hostile.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["hostile_inputs"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


hostile = _hostile()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with every good input in it, and what each of them tells."""
    place = tmp_path_factory.mktemp("hostile")
    return place, hostile.prepare(place)


@pytest.fixture(autouse=True)
def _where_a_module_could_be_imported(inputs, monkeypatch):
    monkeypatch.chdir(inputs[0])
    monkeypatch.syspath_prepend(str(inputs[0]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: "/".join(case))
def test_hostile_input_is_refused_or_read_as_it_was(inputs, case):
    place, told = inputs
    before = hostile.sentinel(place)
    ended = hostile.attempt(place, told[case[0]], case, random.Random("/".join(case)).randrange(10**6))
    assert ended in ("refused", "harmless", "edited")
    assert hostile.sentinel(place) == before


@pytest.mark.parametrize("text", hostile.YAML, ids=range(len(hostile.YAML)))
def test_every_hostile_recipe_is_refused_or_harmless(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    if text in hostile.HARMLESS:
        assert f"model={hostile.HARMLESS[text]!r}, " in hostile.read_recipe_file(tmp_path / "recipe.yaml")
        return
    with pytest.raises(hostile.sc.SecateurError):
        hostile.read_recipe_file(tmp_path / "recipe.yaml")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("base", hostile.bases(), ids=lambda base: str(base)[:60])
def test_every_hostile_architecture_is_refused(inputs, tmp_path, base):
    import json
    import shutil

    folder = shutil.copytree(inputs[0] / "checkpoint", tmp_path / "folder")
    facts = json.loads((folder / "secateur.json").read_text())
    hostile.write_facts(folder / "secateur.json", facts | {"base": base})
    with pytest.raises(hostile.sc.CheckpointError):
        hostile.sc.load(folder)
