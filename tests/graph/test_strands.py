"""Strands of units: which families have them, and that any order of them within a lane computes the same function."""

import copy

import pytest
import torch
from zoo import ZOO, coupled, distance, outputs

from secateur.core.strands import rearranged
from secateur.graph import strands_of
from secateur.structures import Channels

WITH_STRANDS = {
    "DepthwiseTwice": 1,
    "GroupConv": 2,
    "GroupNorm": 1,
    "GroupedConvTranspose": 2,
    "ShuffledChannels": 2,
    "attention": 1,
    "attention_of_torch": 1,
    "bert": 1,
    "calls_its_child": 1,
    "deepseek_v3": 1,
    "fused_chunks": 1,
    "fused_interleaved": 1,
    "gpt2": 2,
    "grouped_queries_of_torch": 2,
    "grouped_queries_repeated": 2,
    "llama": 2,
    "mixtral": 1,
    "phi3": 1,
    "qwen2_moe": 1,
    "relative_bias": 1,
    "rotary_halves": 1,
    "rotary_interleaved": 1,
    "t5": 3,
}


@pytest.mark.parametrize("name", ZOO)
def test_families_have_strands_where_units_lie_once_in_each_of_others(name):
    assert len(strands_of(coupled(name)[1])) == WITH_STRANDS.get(name, 0)


@pytest.mark.parametrize("name", WITH_STRANDS)
@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_strands_computes_the_same(name, seed):
    dense, coupling = coupled(name)
    model, g = copy.deepcopy(dense), torch.Generator().manual_seed(seed)
    orders = []
    for group in Channels().seeing(ZOO[name].call()).find(model):
        if group.strands > 1:
            order = torch.rand(group.strands, group.size, generator=g).argsort(1)
            order[0] = torch.arange(group.size).roll(1)
            orders.append((group, order))
    before = [p.clone() for p in model.parameters()]
    with rearranged(orders):
        pass
    call = ZOO[name].call(seed + 3)
    bound = 1e-10 if coupling.graph.coarsest < 1e-12 else 1e-6
    assert distance(outputs(model, call), outputs(dense, call)) < bound
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_heads_are_no_strands_of_features():
    """A score of a query and a key adds up the features of one head."""
    found = strands_of(coupled("gpt2")[1])
    assert {coupled("gpt2")[1][name].kind for name in found} == {"head-dims"}
