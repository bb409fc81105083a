"""What a mask removes is +0.0 to the last bit, so that a saved and loaded model equals the one in memory."""

import pytest
import torch
from torch import nn

from secateur.core import apply_masks_, attach_mask_

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("-inf")])
def test_a_pruned_weight_is_positive_zero_whatever_it_became(dtype, value):
    layer = nn.Linear(2, 2, bias=False, dtype=dtype)
    attach_mask_(layer, "weight", torch.tensor([[True, False], [False, True]]))
    kept = layer.weight.detach().clone().diagonal()
    with torch.no_grad():
        layer.weight[0, 1] = layer.weight[1, 0] = value
    apply_masks_(layer)
    assert torch.equal(layer.weight.detach(), torch.diag(kept))
    assert not torch.signbit(layer.weight.detach()[[0, 1], [1, 0]]).any()
