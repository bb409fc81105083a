"""The matrices of `nn.MultiheadAttention` are heard, although no module of theirs is called."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.calibration.attention import Projections, projects
from secateur.core import InputGram, Task
from secateur.core.attention import CutAttention
from secateur.structures import Weights

FORMS = {
    "packed": {},
    "without biases": {"bias": False},
    "separate": {"kdim": 6, "vdim": 4},
    "with more keys": {"add_bias_kv": True, "add_zero_attn": True},
}


def heard_by(attention, *inputs, **options):
    """What the attention gives, and by name what each projection was given and gave."""
    told = {}
    names = [n for n, p in attention.named_parameters() if projects(attention, n)]

    def listener(name):
        return lambda x, y: told.setdefault(name, []).append((x, y))

    listeners = {id(attention.get_parameter(n)): listener(n) for n in names}
    with torch.no_grad(), Projections(listeners):
        return attention(*inputs, **options), told


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cut", [False, True])
@given(batch_first=st.booleans(), batched=st.booleans(), cross=st.booleans(), seed=st.integers(0, 99))
def test_projections_are_heard_and_nothing_changes(form, cut, batch_first, batched, cross, seed):
    torch.manual_seed(seed)
    kind = CutAttention if cut else nn.MultiheadAttention
    attention = kind(8, 2, batch_first=batch_first, **FORMS[form]).eval()
    cross = cross or form == "separate"
    x = torch.randn(3, 5, 8)[: 3 if batched else 1]
    keys = torch.randn(len(x), 4, FORMS[form].get("kdim", 8)) if cross else x
    values = torch.randn(len(x), 4, 4) if form == "separate" else keys

    def laid_out(t):
        return t[0] if not batched else t if batch_first else t.transpose(0, 1)

    q = laid_out(x)
    k = q if keys is x else laid_out(keys)
    v = k if values is keys else laid_out(values)
    with torch.no_grad():
        expected, _ = attention(q, k, v)
    (found, _), told = heard_by(attention, q, k, v)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    ((mixed, output),) = told["out_proj.weight"]
    torch.testing.assert_close(laid_out(output), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(F.linear(mixed, attention.out_proj.weight, attention.out_proj.bias), output)
    sources = [x, keys, values] if form == "separate" else [x, keys] if cross else [x]
    heard = [pair for name, pairs in told.items() if name != "out_proj.weight" for pair in pairs]
    assert len(heard) == len(sources)
    for source, (given_, gave) in zip(sources, heard, strict=True):
        assert torch.equal(given_, source) and gave.shape[:-1] == source.shape[:-1]


def test_statistics_are_those_of_the_matrices_inputs():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True).eval()
    x = torch.randn(6, 5, 8)
    goal = Task(train=[x], test=[x], call=lambda m, b: m(b))
    found = collect(layer, Weights().find(layer), (InputGram(),), goal, [x])
    with torch.no_grad():
        normed = layer.norm1(x)
        mixed = torch.linalg.solve(layer.self_attn.out_proj.weight, _attended(layer, normed).flatten(0, 1).T).T
    for name, seen in (("in_proj_weight", normed.flatten(0, 1)), ("out_proj.weight", mixed)):
        gram = found[f"self_attn.{name}", InputGram()]
        seen = seen.double()
        torch.testing.assert_close(gram, seen.T @ seen / len(seen), rtol=1e-3, atol=1e-4)
    assert set(found) == {(g.name, InputGram()) for g in Weights().find(layer)}


def _attended(layer, x):
    return layer.self_attn(x, x, x, need_weights=False)[0] - layer.self_attn.out_proj.bias


@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "obc"])
def test_an_encoder_of_torch_is_pruned_by_its_inputs(method):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    model = nn.Sequential(nn.Linear(8, 8), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(40, 3))
    data = torch.utils.data.TensorDataset(torch.randn(64, 5, 8), torch.arange(64) % 3)
    result = sc.prune(model, method, sparsity=0.5, task=Task(train=data, test=data))
    for name in ("in_proj_weight", "out_proj.weight"):
        mask = result.masks[f"1.layers.1.self_attn.{name}"]
        assert 0.4 < mask.float().mean() < 0.6
