"""Taylor in four forms: each against loops, what it is exact for, and over units that lie in several matrices."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.calibration import collect
from secateur.core import DiagonalFisher, Gradient, Group, RecipeError, Site, Stats, registry
from secateur.scores import Coupled, Taylor
from secateur.scores.coupled import combined
from secateur.scores.gradients import taylor_mix, taylor_second
from secateur.structures import Channels
from secateur.tasks.language import language_task, random_windows

sizes, seeds = st.integers(1, 5), st.integers(0, 2**16)
FORMS = ("param_first", "param_second", "param_mix", "vectorize")


def draw(rows, cols, seed):
    g = torch.Generator().manual_seed(seed)
    return *(torch.randn(rows, cols, generator=g) for _ in range(2)), torch.rand(rows, cols, generator=g)


def of_one(form, w, g, f):
    """A weight's part of the score, as numbers; that of "vectorize" before the absolute value."""
    return {"param_first": abs(g * w), "param_second": w * f * w, "param_mix": abs(g * w - 0.5 * w * f * w)}.get(
        form, g * w
    )


def stats_of(g, f, name="w"):
    return Stats({(name, Gradient()): g, (name, DiagonalFisher()): f})


@pytest.mark.parametrize("form", FORMS)
@given(sizes, sizes, st.integers(1, 3), st.integers(1, 3), seeds)
def test_each_form_is_its_formula_summed_over_a_unit(form, a, b, r, c, seed):
    w, g, f = draw(a * r, b * c, seed)
    site = Site("w", w, tile=(r, c))
    slow = torch.zeros(a, b)
    for i in range(a * r):
        for j in range(b * c):
            slow[i // r, j // c] += of_one(form, *(float(t[i, j]) for t in (w, g, f)))
    found = Taylor(form)(Group("w", site.shape, site=site), stats_of(g, f))
    torch.testing.assert_close(found, slow.abs())


@given(sizes, seeds)
def test_both_orders_are_exact_where_the_loss_is_a_parabola(n, seed):
    """L = a w + h w^2 / 2 with the Hessian in the place of F: what setting w to zero changes."""
    w, a, h = draw(n, 1, seed)
    gradient = a + h * w
    torch.testing.assert_close(taylor_mix(w, gradient, h), (a * w + 0.5 * h * w * w).abs())
    torch.testing.assert_close(taylor_second(w, h), h * w * w)


def test_a_sum_cancels_only_where_it_is_taken_first():
    w, g = torch.ones(1, 2), torch.tensor([[3.0, -3.0]])
    group, stats = Group("w", (1, 1), site=Site("w", w, tile=(1, 2))), stats_of(g, g)
    assert float(Taylor("vectorize")(group, stats)) == 0 and float(Taylor()(group, stats)) == 6


def test_only_what_a_form_reads_is_asked_for():
    assert [Taylor(form).needs for form in FORMS] == [
        (Gradient(),),
        (DiagonalFisher(),),
        (Gradient(), DiagonalFisher()),
        (Gradient(),),
    ]


def test_an_unknown_form_is_refused():
    with pytest.raises(RecipeError, match="param_first"):
        registry.get("llm-pruner").recipe(taylor="param_frist")


def test_a_product_of_tiny_scores_is_not_zero():
    tiny = torch.full((5, 2), 1e-12)
    tiny[0, 1] *= 2
    found = combined(tiny, "prod")
    assert float(found[0]) == pytest.approx(1e-60) and found[1] > found[0]


@pytest.fixture(scope="module")
def llama():
    """One block in which two of four heads share keys; its units, and what gradients of its loss tell."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 4}
    ends = {"vocab_size": 30, "bos_token_id": 1, "eos_token_id": 2}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **sizes, **ends)).eval()
    ids = torch.randint(3, 30, (300,), generator=torch.Generator().manual_seed(0))
    task = language_task(random_windows(ids, 8, 4, 0), random_windows(ids, 8, 2, 1), "tiny", batch_size=4)
    space = Channels(kinds=("attention", "hidden"), streams=False).find(model, {"input_ids": ids[None, :8]})
    return model, space, Stats(collect(model, space.leaves(), Taylor("param_mix").needs, task, task.batches()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("over", ["sum", "prod", "max", "first"])
def test_heads_and_neurons_are_the_slices_of_their_matrices(form, over, llama):
    model, space, stats = llama
    score = Coupled(Taylor(form), over=over, normalize="none")
    block = model.model.layers[0]
    in_group = [[f"self_attn.{n}_proj" for n in "qkvo"], ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]]
    # of 4 heads of 4 features, 2 share keys: 8 rows of q, 4 of k and v, 8 columns of o
    widths = [{"q": 8, "k": 4, "v": 4, "o": 8}, {"g": 1, "u": 1, "d": 1}]
    assert block.self_attn.k_proj.weight.shape == (8, 16) and block.mlp.gate_proj.weight.shape == (6, 16)
    for group, names, width in zip(space, in_group, widths, strict=True):
        matrices = []
        for name in names:
            layer, full = block.get_submodule(name), f"model.layers.0.{name}.weight"
            tensors = [layer.weight.detach(), stats.values[full, Gradient()], stats.values[full, DiagonalFisher()]]
            leaf = name.rpartition(".")[2]
            rows = zip(*(t.T if leaf[0] in "od" else t for t in tensors), strict=True)
            values = torch.stack([of_one(form, *row).sum().abs() for row in rows])
            matrices.append(values.reshape(-1, width[leaf[0]]).sum(1))
        each = torch.stack(matrices)
        by_hand = {"sum": each.sum(0), "prod": each.double().prod(0), "max": each.amax(0), "first": each[0]}
        torch.testing.assert_close(score(group, stats), by_hand[over], check_dtype=False, rtol=1e-4, atol=0)
