"""Costs, against counting by hand."""

import copy

import pytest
import torch
from torch import nn

from secateur.core import attach_mask_
from secateur.core.costs import layers, macs_by_module, priced
from secateur.structures import NM, Blocks, Weights

BATCH, TOKENS = 2, 5


def test_a_linear_multiplies_each_weight_once_per_token():
    assert macs_by_module(nn.Linear(3, 4), torch.randn(BATCH, TOKENS, 3)) == {"": BATCH * TOKENS * 3 * 4}


@pytest.mark.parametrize(
    "conv, macs",
    [
        (nn.Conv2d(4, 6, 3), 25 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), 16 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, groups=2), 25 * 6 * 2 * 9),
        (nn.Conv2d(4, 6, 3, dilation=2), 9 * 6 * 4 * 9),
        (nn.ConvTranspose2d(4, 6, 3), 49 * 4 * 6 * 9),
    ],
    ids=["plain", "strided", "grouped", "dilated", "transposed"],
)
def test_a_convolution_multiplies_each_weight_once_per_position(conv, macs):
    found = macs_by_module(nn.Sequential(conv), torch.randn(BATCH, 4, 7, 7))
    assert found == {"": BATCH * macs, "0": BATCH * macs}


def test_a_recurrent_layer_multiplies_each_weight_once_per_step():
    lstm = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    assert macs_by_module(lstm, torch.randn(BATCH, TOKENS, 3))["0"] == BATCH * TOKENS * (16 * 3 + 16 * 4)


def test_a_transformer_layer_is_counted_part_by_part():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    found = macs_by_module(layer, torch.randn(BATCH, TOKENS, 8))
    assert found["linear1"] == found["linear2"] == BATCH * TOKENS * 8 * 16
    assert found["self_attn"] >= BATCH * TOKENS * 4 * 8 * 8


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)
        self.drop = nn.Dropout()
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)
        self.drop.eval()

    def forward(self, x):
        return self.fc(self.drop(self.bn(self.conv(x))).mean((2, 3)))


@pytest.mark.parametrize("structure", [Weights(), Blocks(2, 2), NM(2, 4)], ids=["weights", "blocks", "N:M"])
def test_the_units_of_a_layer_cost_its_macs_together(structure):
    model, x = Net(), torch.randn(BATCH, 4, 5, 5)
    space, macs = priced(structure.find(model), model, x), macs_by_module(model, x)
    assert {g.name: g.costs["macs"] * g.size for g in space} == pytest.approx(
        {"conv.weight": macs["conv"], "fc.weight": macs["fc"]}
    )


def test_the_matrices_of_one_module_share_its_macs():
    model, x = nn.Sequential(nn.LSTM(3, 4, batch_first=True)), torch.randn(BATCH, TOKENS, 3)
    space = priced(Weights().find(model), model, x)
    assert sum(g.costs["macs"] * g.size for g in space) == pytest.approx(macs_by_module(model, x)["0"])


def test_prices_keep_the_costs_that_were_there():
    model = Net()
    space = priced(Weights().find(model), model, torch.randn(1, 4, 5, 5))
    assert space["fc.weight"].costs.keys() == {"params", "bytes", "macs"}


def test_counting_leaves_the_model_as_it_was():
    model = Net()
    before = copy.deepcopy(model.state_dict())
    macs_by_module(model, torch.randn(BATCH, 4, 5, 5))
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    assert [model.training, model.bn.training, model.drop.training] == [True, True, False]


def test_a_row_tells_what_a_tensor_costs():
    model = Net().bfloat16()
    attach_mask_(model, "fc.weight", torch.eye(4, 8) > 0)
    row = next(r for r in layers(model) if r.name == "fc.weight")
    assert (row.kind, row.shape, row.params, row.nonzero, row.bytes, row.macs) == ("Linear", (4, 8), 32, 4, 64, None)
    assert row.sparsity == 1 - 4 / 32


def test_the_rows_of_a_table_add_up_to_the_macs_of_the_model():
    for model, x in (
        (Net(), torch.randn(BATCH, 4, 5, 5)),
        (nn.Sequential(nn.LSTM(3, 4, 2, bidirectional=True)), torch.randn(TOKENS, BATCH, 3)),
    ):
        assert sum(r.macs for r in layers(model, x)) == macs_by_module(model, x)[""]


def test_a_parameter_that_multiplies_nothing_costs_nothing():
    class Embedded(Net):
        def __init__(self):
            super().__init__()
            self.position = nn.Parameter(torch.zeros(1, 4, 5, 5))
            self.blocks = nn.ModuleList([nn.Linear(4, 4)])

        def forward(self, x):
            return self.blocks[0](super().forward(x + self.position))

    rows = {r.name: r.macs for r in layers(Embedded(), torch.randn(BATCH, 4, 5, 5))}
    assert (rows["position"], rows["blocks.0.weight"]) == (0, BATCH * 16)


def test_a_table_on_the_meta_device_counts_parameters():
    with torch.device("meta"):
        assert sum(r.params for r in layers(Net())) == sum(p.numel() for p in Net().parameters())


def test_a_tied_tensor_is_counted_once():
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False))
    model[1].weight = model[0].weight
    attach_mask_(model, "0.weight", torch.zeros(6, 4, dtype=torch.bool))
    assert [(r.params, r.nonzero) for r in layers(model)] == [(24, 0)]


def test_a_table_that_is_also_the_head_has_the_heads_multiplications():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids):
            return self.head(self.table(ids))

    (row,) = layers(Tied(), torch.zeros(1, 5, dtype=torch.long))
    assert row.name == "table.weight" and row.macs == 5 * 4 * 7


def test_known_multiplications_are_taken_and_nothing_is_run():
    model, x = Net(), torch.randn(BATCH, 4, 8, 8)
    counted = layers(model, x)
    refusing = Net()
    refusing.forward = None
    assert [r.macs for r in layers(refusing, known={r.name: r.macs for r in counted})] == [r.macs for r in counted]
