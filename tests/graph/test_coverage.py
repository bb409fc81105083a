"""A dozen of the models of `benchmarks/coverage.py`, through the same check: cut, proven, trained, saved, loaded."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import coverage_check
from coverage_reasons import WIDE
from coverage_torch import torch_cases
from coverage_transformers import transformers_cases
from harness import forked

NAMES = [
    "transformers/llama",
    "transformers/phi3",
    "transformers/gpt2",
    "transformers/mamba",
    "transformers/bert",
    "transformers/t5",
    "transformers/clip",
    "transformers/vit",
    "transformers/convnext",
    "torch/lstm_proj_size_bidirectional",
    "torch/transformer",
    "torch/conv_transposed_grouped",
]
MOST_S, MOST_BYTES = 60, 8 << 30
CASES = {f"{case.zoo}/{case.name}": case for zoo in (transformers_cases, torch_cases) for case in zoo()}


@pytest.fixture(scope="module", autouse=True)
def warm():
    coverage_check.warm()


@pytest.mark.parametrize("name", NAMES)
def test_it_comes_out_half_as_costly_and_is_the_same_model_in_another_process(name, tmp_path):
    row = forked(lambda: coverage_check.pruned(CASES[name], tmp_path), MOST_S, MOST_BYTES)
    assert row.keys().isdisjoint({"failed", "error"}), row
    row = forked(lambda: coverage_check.loaded(CASES[name], tmp_path), MOST_S, MOST_BYTES)
    assert row.keys().isdisjoint({"failed", "error"}), row


def test_what_stays_beyond_half_of_the_parameters_is_explained(tmp_path):
    row = forked(lambda: coverage_check.pruned(CASES["transformers/mixtral"], tmp_path), MOST_S, MOST_BYTES)
    assert row["half"] > WIDE
    assert any("experts" in entry["such_as"] and entry["reason"] for entry in row["held"])
