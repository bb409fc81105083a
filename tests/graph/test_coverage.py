"""A dozen of the models of `benchmarks/coverage.py`, through the same check: cut, proven, trained, saved, loaded."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import coverage_check
from coverage_reasons import explained, half_width
from coverage_torch import torch_cases
from coverage_transformers import transformers_cases
from harness import forked
from secateur.graph import couple, cut_

NAMES = [
    "transformers/llama",
    "transformers/phi3",
    "transformers/gemma2",
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


@pytest.fixture(scope="module")
def warm():
    coverage_check.warm()


@pytest.mark.parametrize("name", NAMES)
def test_it_comes_out_half_as_costly_and_is_the_same_model_in_another_process(name, tmp_path, warm):
    row = forked(lambda: coverage_check.pruned(CASES[name], tmp_path), MOST_S, MOST_BYTES)
    assert row.keys().isdisjoint({"failed", "error"}), row
    row = forked(lambda: coverage_check.loaded(CASES[name], tmp_path), MOST_S, MOST_BYTES)
    assert row.keys().isdisjoint({"failed", "error"}), row


def test_another_result_in_the_other_process_is_told(tmp_path, warm):
    case = CASES["torch/conv_transposed_grouped"]
    forked(lambda: coverage_check.pruned(case, tmp_path), MOST_S, MOST_BYTES)
    stored = tmp_path / "outputs.safetensors"
    raw = bytearray(stored.read_bytes())
    raw[-1] ^= 1
    stored.write_bytes(raw)
    row = forked(lambda: coverage_check.loaded(case, tmp_path), MOST_S, MOST_BYTES)
    assert row["failed"] == "load" and "1 of 1 outputs differ" in row["error"]


class Sorted(nn.Module):
    """Whose hidden units stay, because sorting tells them by their number."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up(x).sort(-1).values)


def test_what_stays_beyond_half_of_the_parameters_is_explained():
    model, x = Sorted(), torch.randn(2, 6)
    row = half_width(couple(model, lambda model: model(x)), model)
    assert row["half"] == 1
    assert row["held"][0]["such_as"] == "up.weight"
    assert "sort" in row["held"][0]["reason"]
    assert explained(row | {"parameters": sum(p.numel() for p in model.parameters())})


def test_the_share_at_half_the_width_is_that_of_a_model_that_is_cut():
    model, x = nn.Sequential(nn.Linear(6, 31), nn.ReLU(), nn.Linear(31, 8), nn.Linear(8, 4)), torch.randn(2, 6)
    dense = sum(p.numel() for p in model.parameters())
    coupling = couple(model, lambda model: model(x))
    row = half_width(coupling, model)
    keep = {f.name: torch.arange(f.size) < (f.size + 1) // 2 for f in coupling.families}
    cut_(model, lambda model: model(x), coupling, coupling.gone(keep))
    assert row == {"half": sum(p.numel() for p in model.parameters()) / dense}
