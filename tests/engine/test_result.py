"""What a result says of itself."""

import torch
from torch import nn

import secateur as sc


def test_a_printed_result_is_one_line_of_what_changed():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    result = sc.prune(model, "magnitude", structure="channels", sparsity=0.5, example=torch.ones(2, 8))
    assert (
        repr(result)
        == "Result(Sequential, method=magnitude, sparsity=0.5, params=212 -> 108, nonzero=212 -> 108, macs=192 -> 96)"
    )


def test_what_did_not_change_is_left_out():
    result = sc.prune(nn.Linear(8, 4), "magnitude", sparsity=0.5)
    assert "params" not in repr(result) and "nonzero=36 -> 20" in repr(result)
