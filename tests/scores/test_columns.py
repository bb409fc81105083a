"""Scores of columns that read units: formulas as loops, z-scores, heads of attention, what is refused."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.core import Stats
from secateur.scores import Fluctuation, MagSP, WandaSP
from secateur.scores.columns import z_scores
from secateur.structures import Channels

seeds = st.integers(0, 2**16)
X = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)).double().eval()


def units(model, x=X, kinds=("hidden",)):
    return Channels(kinds=kinds, streams=False).find(model, x)


def scored(model, score, x=X, kinds=("hidden",), batches=3, space=None):
    space = units(model, x, kinds) if space is None else space
    goal = sc.Task(train=x, test=x, call=lambda m, b: m(b))
    seen = Stats(collect(model, space.leaves(), score.needs, goal, x.split(batches)) if score.needs else {})
    return {g.name: score(g, seen) for g in space}


def hidden(model, x=X):
    return model[1](model[0](x)).detach()


MODEL = mlp()
SPACE = units(MODEL)


@given(seeds)
def test_formulas_written_as_loops(seed):
    model = MODEL
    model.load_state_dict(mlp(seed).state_dict())
    W, h = model[2].weight.detach(), hidden(model)
    v = [float(h[:, j].var(unbiased=False)) for j in range(5)]
    squared = [sum(float(W[i, j]) ** 2 for i in range(4)) for j in range(5)]
    mean_abs = [sum(abs(float(W[i, j])) for i in range(4)) / 4 for j in range(5)]
    norm = [(float((h[:, j] ** 2).sum()) / 6) ** 0.5 for j in range(5)]  # every sample is a sequence of one
    expected = {
        Fluctuation("wifv", columns="none"): [a * b for a, b in zip(v, squared, strict=True)],
        Fluctuation("ifv", columns="none"): v,
        Fluctuation("wifn", columns="none"): [a * b for a, b in zip(mean_abs, norm, strict=True)],
        WandaSP(): [a * b for a, b in zip(mean_abs, norm, strict=True)],
        MagSP(): [s**0.5 for s in squared],
    }
    for score, slow in expected.items():
        torch.testing.assert_close(scored(model, score, space=SPACE)["0"], torch.tensor(slow, dtype=torch.float64))


@given(seeds)
def test_z_scores_have_mean_zero_and_deviation_one_and_do_not_depend_on_scale_or_shift(seed):
    s = torch.rand(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = z_scores(s)
    torch.testing.assert_close(torch.stack((z.mean(), z.std())), torch.tensor([0.0, 1]).double())
    torch.testing.assert_close(z_scores(3 * s + 5), z)


@pytest.mark.parametrize("same", [torch.full((7,), 0.1), torch.zeros(3), torch.ones(1)])
def test_columns_that_score_alike_are_average_and_named(same, caplog):
    with caplog.at_level(logging.WARNING):
        assert not z_scores(same.double(), "down.weight").any()
    assert "down.weight" in caplog.text


def attention(kv):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    ends = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 8}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=kv, **sizes, **ends)).eval()


IDS = torch.randint(3, 50, (6, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kv", [8, 4, 2])
def test_a_head_or_a_group_of_heads_is_the_mean_or_the_sum_of_its_columns(kv):
    model = attention(kv)
    o, seen = model.model.layers[0].self_attn.o_proj, []
    handle = o.register_forward_hook(lambda m, i, out: seen.append(i[0].detach().double()))
    model(input_ids=IDS)
    handle.remove()
    x, W = seen[0], o.weight.detach().double()
    columns = x.flatten(0, 1).var(0, unbiased=False) * W.square().sum(0)
    norms = W.abs().mean(0) * x.square().sum((0, 1)).div(len(x)).sqrt()
    space = units(model, IDS, ("attention",))
    for score, whole in (
        (Fluctuation(), z_scores(columns).reshape(kv, -1).mean(1)),
        (Fluctuation(compat="none", columns="none"), columns.reshape(kv, -1).mean(1)),
        (WandaSP(), norms.reshape(kv, -1).sum(1)),
        (WandaSP("mean", "standard"), z_scores(norms).reshape(kv, -1).mean(1)),
        (MagSP(), W.norm(dim=0).reshape(kv, -1).sum(1)),
    ):
        found = scored(model, score, IDS, space=space)
        (name,) = found
        assert name.endswith("/heads" if kv == 8 else "/kv-groups")
        torch.testing.assert_close(found[name], whole, rtol=1e-6, atol=1e-9)


def test_the_released_code_squares_columns_of_attention_alone():
    model = attention(8)
    released, exact = Fluctuation("wifn", compat="release", columns="none"), Fluctuation("wifn", columns="none")
    space = units(model, IDS, ("attention", "hidden"))
    one, other = scored(model, released, IDS, space=space), scored(model, exact, IDS, space=space)
    mlp_name, heads = "model.layers.0.mlp.gate_proj", "model.layers.0.self_attn.q_proj/heads"
    torch.testing.assert_close(one[mlp_name], other[mlp_name])
    assert not torch.allclose(one[heads], other[heads])
    release = scored(model, Fluctuation(compat="release"), IDS, space=space)
    assert all(s.isfinite().all() for s in release.values())


def test_a_channel_is_read_as_all_places_of_a_kernel():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 2)).double().eval()
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    patches = nn.functional.unfold(model[1](model[0](x)).detach(), 2).transpose(1, 2).flatten(0, 1)
    W = model[2].weight.detach().flatten(1)
    expected = (patches.var(0, unbiased=False) * W.square().sum(0)).reshape(4, 4).mean(1)
    found = scored(model, Fluctuation(columns="none"), x, ("channels",))
    torch.testing.assert_close(found["0"], expected)


def test_one_sequence_has_no_variance_and_says_so():
    with pytest.raises(sc.RecipeError, match="fewer than two sequences"):
        scored(mlp(), Fluctuation(), X[:1])


def test_units_that_nothing_seen_reads_are_named():
    space = Channels().find(mlp(), X)
    with pytest.raises(sc.RecipeError, match="no Linear or convolution that was seen"):
        WandaSP()(space["0"], Stats())
