"""Storage of large-sparse models, counted by hand."""

import torch
from torch import nn

from secateur.engine.measure import storage


def sparse(rows=4, cols=8, kept=5):
    model = nn.Linear(cols, rows)
    with torch.no_grad():
        model.weight.zero_()
        model.weight.view(-1)[:kept] = 1.0
    return model


def test_a_sparse_matrix_in_every_format():
    found = storage(sparse())
    bias = 4 * 4
    assert found == {
        "dense": 32 * 4 + bias,
        "bitmask": 5 * 4 + 32 // 8 + bias,
        "csr16": 5 * (4 + 2) + 4 * 5 + bias,
        "csr32": 5 * (4 + 4) + 4 * 5 + bias,
    }


def test_a_dense_matrix_costs_the_same_in_every_format():
    assert set(storage(nn.Linear(3, 2)).values()) == {4 * 8}


def test_a_row_too_wide_for_16_bits_is_indexed_by_32():
    found = storage(sparse(rows=1, cols=(1 << 16) + 1, kept=3))
    assert found["csr16"] == found["csr32"]


def test_bfloat16_values_take_two_bytes():
    assert storage(sparse().bfloat16())["dense"] == 2 * (32 + 4)
