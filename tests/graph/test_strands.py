"""Strands of units: which families have them, and that any order of them within a lane computes the same function."""

import copy

import pytest
import torch
from torch import nn
from zoo import ZOO, coupled, distance, outputs

from secateur.core import NumericsError
from secateur.core.strands import rearranged
from secateur.graph import couple, same_function, strands_of
from secateur.graph.ir import Ref
from secateur.graph.masked import Astray, _parallel
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


class Deciding(nn.Module):
    """Grouped channels, of which the two positions with the largest sums are read."""

    def __init__(self):
        super().__init__()
        self.stem, self.grouped, self.head = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 8, 1, groups=2), nn.Linear(8, 2)

    def forward(self, x):
        hidden = self.grouped(self.stem(x)).relu()
        best = hidden.sum(1).topk(2).indices
        return self.head(hidden.gather(2, best[:, None].expand(-1, 8, -1)).mean(2))


def test_another_order_is_the_same_function():
    dense, coupling = coupled("GroupConv")
    model, call = copy.deepcopy(dense), ZOO["GroupConv"].call()
    group = Channels().seeing(call).find(model)["stem"]
    order = torch.arange(group.size).flip(0).repeat(group.strands, 1)
    with same_function(model, call, coupling), rearranged([(group, order)]):
        assert torch.equal(model.stem.bias.view(4, 2), dense.stem.bias.view(4, 2).flip(1))
    assert distance(outputs(model, call), outputs(dense, call)) < 1e-10


def test_another_function_is_told():
    torch.manual_seed(0)
    model, x = Deciding().eval(), torch.randn(2, 3, 6)
    coupling = couple(model, lambda m: m(x))
    with (
        pytest.raises(NumericsError, match="another order computes something else"),
        same_function(model, lambda m: m(x), coupling),
        torch.no_grad(),
    ):
        model.stem.bias += 1


class Restless(Deciding):
    """Does one operation more every time."""

    times = 0

    def forward(self, x):
        Restless.times += 1
        for _ in range(Restless.times):
            x = x + 0
        return super().forward(x)


def test_a_model_that_does_other_operations_every_time_is_compared_by_its_outputs():
    torch.manual_seed(0)
    model, x = Restless().eval(), torch.randn(2, 3, 6)
    coupling = couple(model, lambda m: m(x))
    with same_function(model, lambda m: m(x), coupling):
        pass
    with pytest.raises(NumericsError), same_function(model, lambda m: m(x), coupling), torch.no_grad():
        model.stem.bias += 1


def test_sizes_of_another_length_are_left_as_the_pass_gives_them_and_tensors_are_not():
    recorded = (Ref(0), [2, 3])
    assert _parallel(recorded, ("x", [1, 2, 3]), lambda _, t: t) == ("x", [1, 2, 3])
    with pytest.raises(Astray, match="took 2 arguments, and 1 were recorded"):
        _parallel([Ref(0)], [torch.ones(1), torch.ones(1)], lambda _, t: t)
