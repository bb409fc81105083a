"""Layers as matrices times rows of tokens: what View makes of inputs and outputs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.core import token_view


def check_is_the_matrix_times_the_rows(layer, x, weight):
    view = token_view(layer)
    rows, expected = view.inputs(x), view.outputs(layer(x))
    torch.testing.assert_close(rows @ weight.T + layer.bias, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@given(
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    padding=st.sampled_from([0, 1, (1, 0), (2, 1), "same", "valid"]),
    kernel=st.sampled_from([1, 3, (2, 3), (4, 1)]),
    dilation=st.sampled_from([1, (1, 2)]),
    stride=st.sampled_from([1, 2, (1, 2)]),
)
def test_a_convolution_is_its_matrix_times_its_patches_however_it_pads(mode, padding, kernel, dilation, stride):
    stride = 1 if padding == "same" else stride
    conv = nn.Conv2d(3, 4, kernel, stride, padding, dilation, padding_mode=mode)
    check_is_the_matrix_times_the_rows(conv, torch.randn(2, 3, 8, 7), conv.weight.flatten(1))


def test_a_linear_layer_is_its_matrix_times_its_inputs():
    linear = nn.Linear(5, 3)
    check_is_the_matrix_times_the_rows(linear, torch.randn(2, 4, 5), linear.weight)


def test_a_layer_stored_the_other_way_round_too():
    layer = pytest.importorskip("transformers").pytorch_utils.Conv1D(3, 5)
    check_is_the_matrix_times_the_rows(layer, torch.randn(2, 4, 5), layer.weight.T)


@pytest.mark.parametrize("module", [nn.Conv2d(4, 4, 3, groups=2), nn.Conv1d(4, 4, 3), nn.Embedding(4, 4), nn.ReLU()])
def test_other_modules_have_no_rows(module):
    assert token_view(module) is None


def test_equal_views_are_one():
    assert token_view(nn.Conv2d(3, 4, 3, padding=1)) == token_view(nn.Conv2d(3, 8, 3, padding=1))
    reflecting = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
    assert token_view(nn.Conv2d(3, 4, 3, padding=1)) != token_view(reflecting)
