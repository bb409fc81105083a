"""`secateur inspect --structure`: families, what one unit costs, what stays and why; on pictures and on tokens."""

import dataclasses
import json

import pytest
import torch
from torch import nn

import secateur as sc
from commands import secateur
from secateur.cli.example import of_shape
from secateur.core import RecipeError, first_call
from secateur.engine.families import families_of
from secateur.report.table import print_families


class Words(nn.Module):
    """A table of tokens, a hidden layer, an operation that has no rule, an output."""

    def __init__(self):
        super().__init__()
        self.table, self.a, self.b, self.out = nn.Embedding(7, 6), nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.linalg.matrix_exp(self.b(self.a(self.table(x)).relu())[:, :4]).mean(1))


def cnn():
    torch.manual_seed(0)
    return sc.tasks.builtin_model("digits-cnn")


def found(model, shape):
    return families_of(model, of_shape(model, shape), first_call)


def test_the_command_tells_families_and_what_stays_as_json():
    command = ("inspect", "builtin:digits-cnn", "--structure", "--input", "1,1,8,8")
    told = json.loads(secateur(*command, "--json", check=0).stdout)["structure"]
    assert told["found_on"] == "fake tensors" and told["unknown"] == {}
    first = told["families"][0]
    assert (first["name"], first["kind"], first["units"], first["tag"]) == ("conv1", "channels", 16, "EXACT")
    assert {"tensor": "conv2.weight", "dim": 1, "positions": 1, "roles": ["consumer"]} in first["members"]
    assert told["frozen"][0]["positions"] == 20 and "output" in told["frozen"][0]["why"]
    table = secateur(*command, check=0).stdout
    assert "conv1.weight 0, bn1.running_mean 0" in table and "(6 in all)" in table and "what stays" in table


def test_what_one_unit_costs_is_what_the_model_loses_with_it():
    row = found(cnn(), "1,1,8,8").families[1]
    keep = {"conv1": torch.ones(16, dtype=bool), "conv2": torch.arange(32) < 31, "conv3": torch.ones(64, dtype=bool)}
    dense = cnn()
    structure = sc.structures.Channels()
    call = structure.seeing(lambda m: m(torch.zeros(1, 1, 8, 8)))
    before = sum(p.numel() for p in dense.parameters())
    small, _ = call.apply_(dense, sc.core.Choice(sc.core.Keep(keep)))
    assert before - sum(p.numel() for p in small.parameters()) == row.params
    macs = sc.core.costs.macs_by_module
    assert macs(cnn(), torch.zeros(1, 1, 8, 8))[""] - macs(small, torch.zeros(1, 1, 8, 8))[""] == row.macs


def test_a_model_that_begins_with_a_table_gets_numbers_of_its_rows():
    inputs = of_shape(Words(), "2,5")
    assert not inputs.is_floating_point() and inputs.shape == (2, 5) and inputs.min() >= 0 and inputs.max() < 7
    assert torch.equal(inputs, of_shape(Words(), "2,5"))


def test_any_other_model_gets_numbers_of_its_own_kind():
    assert of_shape(nn.Linear(3, 3).double(), "2,3").dtype == torch.float64
    assert of_shape(cnn(), "1,1,8,8").std() > 0.5


def test_a_model_of_transformers_gets_tokens_too():
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    model = transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=20))
    kinds = {(row.kind, row.units) for row in found(model, "1,6").families}
    assert {("heads", 2), ("hidden", 12)} <= kinds


def test_operations_without_a_rule_are_named_with_their_modules():
    told = found(Words(), "2,4")
    assert told.unknown == {"linalg_matrix_exp": ("",)}
    assert {row.name for row in told.families} == {"table", "a"}
    assert any("no rule" in row.why and "b.weight, dimension 0" in row.places for row in told.frozen)


def test_without_an_example_the_error_says_how_to_give_one():
    with pytest.raises(RecipeError, match="--input 1,3,32,32"):
        families_of(cnn(), None, first_call)


@pytest.mark.parametrize("shape", ["", "0,3", "-1,3", "1.5", "inf", "100000,100000"])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(RecipeError):
        of_shape(cnn(), shape)


def test_names_with_brackets_are_printed_as_they_are(capsys):
    told = found(cnn(), "1,1,8,8")
    odd = dataclasses.replace(told.families[0], name="[bold]conv")
    print_families("Model[2]", dataclasses.replace(told, families=(odd,)))
    printed = capsys.readouterr().out
    assert "[bold]conv" in printed and "Model[2]" in printed


def test_units_that_each_group_loses_for_itself_are_told_with_their_lanes(capsys):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 1, groups=2), nn.Flatten(), nn.Linear(24, 3))
    offered = found(model, "1,3,2,2")
    assert [(f.name, f.units, f.lanes) for f in offered.families] == [("0/groups", 2, 1), ("0", 4, 2), ("2", 3, 2)]
    print_families("grouped", offered)
    told = capsys.readouterr().out
    assert "4 in 2" in told and "each of B groups" in told
