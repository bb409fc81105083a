"""Norms fused into the layers that read them: the function stays, and every rotation is free afterwards."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prenorms import NOT_ROTATABLE, ROTATABLE, apart, call, ids, logits, model_of
from torch import nn

import secateur as sc
from secateur.core import SlicedNorm, Untie
from secateur.graph import norm_form, prenorm_of
from secateur.structures.linear_maps import times_inputs_, times_outputs_, weight_of
from secateur.structures.norm_fusion import center_, fuse_norms_
from secateur.structures.sliced_stream import rotatable

widths, seeds = st.integers(2, 12), st.integers(0, 2**16)


class OnePlus(nn.Module):
    """An RMS norm that keeps its scale less one, as Gemma's."""

    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.zeros(width)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


@given(
    widths,
    seeds,
    st.sampled_from(["rms", "layer", "layer, no bias", "one plus", "plain"]),
    st.sampled_from([1e-6, 1e-3]),
)
def test_a_norm_is_known_by_what_it_computes(width, seed, kind, eps):
    torch.manual_seed(seed)
    norm = {
        "rms": lambda: nn.RMSNorm(width, eps=eps),
        "layer": lambda: nn.LayerNorm(width, eps=eps),
        "layer, no bias": lambda: nn.LayerNorm(width, eps=eps, bias=False),
        "one plus": lambda: OnePlus(width, eps),
        "plain": lambda: nn.LayerNorm(width, eps=eps, elementwise_affine=False),
    }[kind]()
    for p in norm.parameters():
        nn.init.normal_(p)
    form = norm_form(norm, width)
    assert form is not None and form.eps == eps and form.centred == (kind[:5] in ("layer", "plain"))
    x = torch.randn(5, width)
    torch.testing.assert_close(form(x.double()).float(), norm(x), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Linear(6, 6), nn.Dropout(0.1), nn.BatchNorm1d(6), nn.GroupNorm(2, 6)])
def test_what_is_no_norm_of_vectors_is_none(module):
    assert norm_form(module.eval(), 6) is None


@pytest.mark.parametrize("name", ROTATABLE)
def test_fusing_leaves_the_outputs_as_they_were(name):
    model = model_of(name)
    dense = logits(model, ids())
    fuse_norms_(model, prenorm_of(model, call))
    assert apart(logits(model, ids()), dense) < 1e-5
    norms = [m for m in model.modules() if isinstance(m, SlicedNorm)]
    assert len(norms) >= 3 and all(m.weight is None for m in norms)


def test_a_head_that_is_the_embedding_becomes_a_tensor_of_its_own_and_the_config_says_so():
    model = model_of("llama, tied")
    params = sum(p.numel() for p in model.parameters())
    plan = fuse_norms_(model, prenorm_of(model, call))
    assert Untie("lm_head.weight") in plan.actions and not model.config.tie_word_embeddings
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    gone = sum(p.numel() for n, p in model_of("llama, tied").named_parameters() if "norm" in n)
    assert sum(p.numel() for p in model.parameters()) == params + 60 * 32 - gone


def test_layer_norms_are_rms_norms_on_a_stream_without_mean():
    model = model_of("gpt2")
    fuse_norms_(model, prenorm_of(model, call))
    seen = []
    for block in model.transformer.h:
        block.register_forward_hook(lambda _m, args, out: seen.extend((args[0], out)))
    logits(model, ids())
    assert len(seen) == 4 and all(float(x.mean(-1).abs().max()) < 1e-5 for x in seen)


@given(widths, widths, seeds, st.sampled_from(["linear", "conv1d", "table"]))
def test_multiplying_a_layer_multiplies_what_it_reads_or_gives(inputs, outputs, seed, kind):
    torch.manual_seed(seed)
    conv = pytest.importorskip("transformers.pytorch_utils").Conv1D
    made = {"linear": nn.Linear, "conv1d": lambda i, o: conv(o, i), "table": nn.Embedding}
    layer = made[kind](inputs, outputs).double()
    x = torch.arange(inputs) if kind == "table" else torch.randn(4, inputs, dtype=torch.float64)
    M = torch.randn(outputs, max(outputs - 1, 1), dtype=torch.float64)
    before = layer(x)
    times_outputs_(layer, M)
    torch.testing.assert_close(layer(x), before @ M)
    if kind != "table":
        N = torch.randn(inputs, 3, dtype=torch.float64)
        z = torch.randn(4, 3, dtype=torch.float64)
        before = layer(z @ N.T)
        times_inputs_(layer, N)
        torch.testing.assert_close(layer(z), before)


@given(widths, seeds)
def test_centring_twice_is_centring_once(width, seed):
    torch.manual_seed(seed)
    layer, x = nn.Linear(3, width).double(), torch.randn(4, 3, dtype=torch.float64)
    expected = layer(x) - layer(x).mean(-1, keepdim=True)
    center_(layer)
    torch.testing.assert_close(layer(x), expected)
    center_(layer)
    torch.testing.assert_close(layer(x), expected)
    assert weight_of(layer).shape == (width, 3)


@pytest.mark.parametrize(
    ("name", "where"),
    {
        "gemma2": "layers.0.post_attention_layernorm",
        "gemma3": "layers.0.post_attention_layernorm",
        "olmo2": "layers.0.self_attn",
        "bert": "layer.0.attention",
        "mixtral": "layers.0.mlp",
        "opt, norms behind": "layers.0.self_attn",
        "no head": "norm",
    }.items(),
)
def test_what_cannot_be_rotated_is_named_and_left_alone(name, where):
    model = model_of(name)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(sc.SubjectError, match="not rotatable") as refused:
        rotatable(model, call)
    assert where in str(refused.value)
    assert set(NOT_ROTATABLE) and all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
