"""A sliced stream is the dense model with projections of its stream; shapes, plans, refusals."""

import copy
from contextlib import ExitStack, contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prenorms import ROTATABLE, apart, call, ids, logits, model_of, orthogonal

import secateur as sc
from secateur.core import Choice, Keep, Plan, SlicedBlock, Stats
from secateur.structures import Directions

D = 32


@contextmanager
def projected(model, axes):
    """The dense model, an RMS one, whose stream is projected at each place: x Q Q^T, before the norm and beside it."""

    def project(Q):
        def hook(_, args):
            args[0].copy_((args[0].double() @ Q @ Q.T).to(args[0].dtype))  # in place: the residual is that tensor

        return hook

    with ExitStack() as hooks:
        for name, Q in axes.items():
            norm = model.get_submodule(name.removesuffix(".weight"))
            hooks.callback(norm.register_forward_pre_hook(project(Q)).remove)
        yield


def sliced(model, widths, structure=None, seed=0):
    """A copy with random directions at each place; the directions that stay, and the plan."""
    structure = (structure or Directions()).seeing(call)
    twin = copy.deepcopy(model)
    names = [g.name for g in structure.find(twin)]
    turns = {name: orthogonal(D, seed + i) for i, name in enumerate(names)}
    keep = {name: (torch.arange(D) < k).reshape(D, 1) for name, k in zip(names, widths, strict=True)}
    plan = structure.rewrite_(twin, Stats())
    twin, more = structure.apply_(twin, Choice(Keep(keep), {name: Q.T for name, Q in turns.items()}))
    return twin, {name: Q[:, :k] for (name, Q), k in zip(turns.items(), widths, strict=True)}, plan + more


@settings(max_examples=10)
@given(st.lists(st.integers(1, D), min_size=4, max_size=4), st.integers(0, 1000))
def test_it_is_the_dense_model_with_projections_of_its_stream(widths, seed):
    model = model_of("llama")
    twin, axes, _ = sliced(model, widths, seed=seed)
    with projected(model, axes):
        expected = logits(model, ids())
    assert apart(logits(twin, ids()), expected) < 1e-4


@pytest.mark.parametrize("name", ROTATABLE)
def test_rotations_alone_leave_the_outputs_as_they_were(name):
    model = model_of(name)
    dense = logits(model, ids())
    places = len(Directions().seeing(call).find(model))
    twin, _, _ = sliced(model, [D] * places)
    assert apart(logits(twin, ids()), dense) < 1e-5


def test_the_norm_goes_on_dividing_by_the_whole_width():
    twin, _, _ = sliced(model_of("llama"), [8, 8, 8, 8])
    norm = twin.model.layers[0].input_layernorm
    x = torch.randn(3, 8)
    torch.testing.assert_close(norm(x), x / (x.square().sum(-1, keepdim=True) / D + norm.eps).sqrt())


def test_every_place_has_its_width_and_the_last_block_gives_all_of_it():
    twin, _, _ = sliced(model_of("llama"), [24, 16, 8, 20])
    first, last = twin.model.layers
    assert twin.model.embed_tokens.weight.shape == (60, 24) and twin.lm_head.weight.shape == (60, D)
    assert first.self_attn.q_proj.weight.shape == (D, 24) and first.self_attn.o_proj.weight.shape == (16, D)
    assert first.mlp.up_proj.weight.shape == (48, 16) and first.mlp.down_proj.weight.shape == (8, 48)
    assert [tuple(s.weight.shape) for s in first.shortcuts] == [(16, 24), (8, 16)]
    assert [tuple(s.weight.shape) for s in last.shortcuts] == [(20, 8), (D, 20)]
    assert last.mlp.down_proj.out_features == D


def test_branches_beside_each_other_have_one_shortcut():
    twin, _, _ = sliced(model_of("phi"), [24, 16])
    assert [len(block.shortcuts) for block in twin.model.layers] == [1, 1]
    assert twin.model.layers[0].shortcuts[0].weight.shape == (16, 24)


def test_the_head_is_sliced_where_asked():
    twin, axes, _ = sliced(model_of("llama"), [24, 16, 8, 20, 12], Directions(head=True))
    assert twin.lm_head.weight.shape == (60, 12) and twin.model.layers[1].mlp.down_proj.out_features == 12
    model = model_of("llama")
    with projected(model, axes):
        expected = logits(model, ids())
    assert apart(logits(twin, ids()), expected) < 1e-4


def test_gpt2_takes_one_width_for_both_ends():
    structure = Directions().seeing(call)
    assert [g.name for g in structure.find(model_of("gpt2"))][-1] == "transformer.ln_f.weight"
    twin, _, _ = sliced(model_of("gpt2"), [16, 24, 8, 20, 16])
    assert twin.lm_head.weight.shape == (60, 16) and twin.transformer.h[0].attn.c_attn.weight.shape == (16, 96)
    model = model_of("gpt2")
    dense = logits(model, ids())
    with pytest.raises(sc.BudgetError, match="one width for both"):
        sliced(model, [16, 24, 8, 20, 24])
    assert torch.equal(logits(model, ids()), dense)


@pytest.mark.parametrize("name", ["llama, tied", "gpt2", "opt", "opt, no biases", "phi"])
def test_the_plan_gives_the_shapes_on_a_model_without_weights(name):
    model = model_of(name)
    twin, _, plan = sliced(model, [16] * len(Directions().seeing(call).find(model)))
    with torch.device("meta"):
        blank = type(model)(type(model.config)(**model.config.to_dict()))
    Plan.from_json(plan.to_json()).replay_(blank)
    shapes = {n: t.shape for n, t in blank.state_dict().items()}
    assert shapes == {n: t.shape for n, t in twin.state_dict().items()}
    assert Plan.from_json(plan.to_json()) == plan


def test_blocks_stay_what_libraries_take_them_for():
    model = model_of("llama")
    kind = type(model.model.layers[0])
    twin, _, _ = sliced(model, [16] * 4)
    block = twin.model.layers[0]
    assert isinstance(block, kind) and isinstance(block, SlicedBlock) and type(block).__name__ == kind.__name__
    assert not isinstance(model.model.layers[0], SlicedBlock)
    again = copy.deepcopy(twin)
    assert torch.equal(logits(again, ids()), logits(twin, ids()))


def test_gradients_reach_every_parameter():
    twin, _, _ = sliced(model_of("llama"), [16] * 4)
    twin(input_ids=ids()).logits.square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in twin.parameters())


def test_a_mask_reaches_the_attention():
    twin, axes, _ = sliced(model_of("llama"), [24, 16, 8, 20])
    model, mask = model_of("llama"), torch.ones(2, 12, dtype=torch.long)
    mask[0, :5] = 0
    with torch.no_grad(), projected(model, axes):
        expected = model(input_ids=ids(), attention_mask=mask, use_cache=False).logits
    with torch.no_grad():
        found = twin(input_ids=ids(), attention_mask=mask, use_cache=False).logits
    assert apart(found[0, 5:], expected[0, 5:]) < 1e-4 and apart(found[1], expected[1]) < 1e-4


def test_a_sliced_stream_is_not_sliced_again():
    twin, _, _ = sliced(model_of("llama"), [16] * 4)
    with pytest.raises(sc.SubjectError, match="sliced already"):
        Directions().seeing(call).find(twin)


def test_without_an_example_it_says_so():
    with pytest.raises(sc.SubjectError, match="no example"):
        Directions().find(model_of("llama"))
