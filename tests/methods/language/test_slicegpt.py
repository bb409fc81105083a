"""SliceGPT on language models: which directions, how wide, saving, generating, refusing. See claims/slicegpt.py."""

import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from prenorms import NOT_ROTATABLE, ROTATABLE, apart, ids, logits, model_of

import secateur as sc
from commands import generated_elsewhere, secateur
from secateur.core import SlicedBlock, Untie
from secateur.scores import Energy
from secateur.solvers.principal import PrincipalAxes, principal_axes
from secateur.structures import Directions
from secateur.tasks.language import Windows, language_task, random_windows

D = 32
TEXT = torch.randint(3, 60, (600,), generator=torch.Generator().manual_seed(0))


def task(seed=0, count=32):
    return language_task(random_windows(TEXT, 12, count, seed), Windows(TEXT[:120], 12), "tiny", batch_size=8)


def sliced(name="llama", sparsity=0.25, **more):
    return sc.prune(model_of(name), "slicegpt", sparsity=sparsity, task=task(), **more)


@pytest.mark.parametrize("name", ROTATABLE)
def test_without_a_cut_the_logits_stay(name):
    result = sliced(name, sparsity=0.0)
    assert apart(logits(result.subject, ids()), logits(model_of(name), ids())) < 1e-4
    assert any(isinstance(m, SlicedBlock) for m in result.subject.modules())


def brute_force(model, batches, k):
    """Place by place: hear the stream with all places before it projected, and project it to its first k directions."""
    places = [norm for layer in model.model.layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    for norm in places:
        C = torch.zeros(D, D, dtype=torch.float64)

        def hear(_, args, C=C):
            x = args[0].reshape(-1, D).double()
            C.add_(x.T @ x)

        heard = norm.register_forward_pre_hook(hear)
        for batch in batches:
            logits(model, batch)
        heard.remove()
        Q = principal_axes(C / sum(b.numel() for b in batches), 0.01)[:, :k]

        def project(_, args, Q=Q):
            args[0].copy_((args[0].double() @ Q @ Q.T).to(args[0].dtype))  # in place: the residual is that tensor

        norm.register_forward_pre_hook(project)
    return model


@pytest.mark.parametrize("orientation", ["pca", "random"])
def test_directions_are_those_of_the_stream_that_the_sliced_places_before_give(orientation):
    result = sliced(orientation=orientation)
    batches = list(task().fork(0).batches("train", epoch=0))
    with torch.no_grad():
        expected = logits(brute_force(model_of("llama"), batches, 24), ids())
    assert apart(logits(result.subject, ids()), expected) < 1e-3


def test_padding_is_not_heard():
    def pruned(pad):
        windows = random_windows(TEXT, 12, 16, 0).ids.clone()
        mask = torch.ones_like(windows)
        mask[::2, 8:] = 0
        windows[::2, 8:] = pad
        batches = [{"input_ids": windows, "attention_mask": mask}]
        goal = sc.Task(
            train=batches,
            test=batches,
            call=lambda m, b: m(**b, use_cache=False),
            loss=lambda out, b: out.logits.square().mean(),
            metrics={},
        )
        return sc.prune(model_of("llama"), "slicegpt", sparsity=0.25, task=goal).subject

    assert apart(logits(pruned(5), ids()), logits(pruned(50), ids())) < 1e-5


def test_it_loses_less_than_the_coordinates_of_least_energy():
    model, goal = model_of("llama"), task()
    with torch.no_grad():  # a stream of few directions, none of which is a coordinate
        low = torch.randn(60, 12) @ torch.randn(12, D)
        model.model.embed_tokens.weight.copy_(3 * low)
        for layer in model.model.layers:
            for writer in (layer.self_attn.o_proj, layer.mlp.down_proj):
                writer.weight.mul_(0.02)
    dense = logits(model, ids())
    rotated = sc.prune(copy.deepcopy(model), "slicegpt", sparsity=0.5, task=goal).subject
    recipe = sc.Recipe(Directions(), Energy(), budget=sc.budgets.StreamWidths(), propagation="stages")
    plain = sc.prune(copy.deepcopy(model), recipe, sparsity=0.5, task=goal).subject
    assert apart(logits(rotated, ids()), dense) < 0.5 * apart(logits(plain, ids()), dense)


def test_both_shares_are_told_the_one_of_the_width_and_the_one_of_the_parameters():
    result = sliced("llama, tied")
    assert result.sparsity["sparsity"] == 0.25 and set(result.sparsity["per_group"].values()) == {0.25}
    assert result.before["params"] == sum(p.numel() for p in model_of("llama, tied").parameters())
    assert result.after["params"] == sum(p.numel() for p in result.subject.parameters())
    assert any(isinstance(action, Untie) for action in result.plan.actions)


def test_widths_are_rounded_down_to_multiples_of_8_and_may_follow_the_depth():
    assert sliced(sparsity=0.3).keep.counts == dict.fromkeys(sliced().keep.counts, 16)
    assert list(sliced(sparsity=0.5, multiple=1, tilt=0.5).keep.counts.values()) == [24, 18, 13, 8]


def test_widths_may_be_given_place_by_place():
    shares = {"model.layers.0.*": 0.5, "model.layers.1.input*": 0.25}
    recipe = sc.Recipe(Directions(), solve=PrincipalAxes(), budget=sc.budgets.Fixed(shares), propagation="stages")
    result = sc.prune(model_of("llama"), recipe, task=task())
    assert list(result.keep.counts.values()) == [16, 16, 24, 32]
    assert [tuple(s.weight.shape) for s in result.subject.model.layers[1].shortcuts] == [(32, 24), (32, 32)]


def test_a_width_of_nothing_is_refused():
    with pytest.raises(sc.BudgetError, match="multiple"):
        sliced(sparsity=0.9)


def test_a_target_that_is_a_cost_is_refused_with_what_to_give():
    with pytest.raises(sc.RecipeError, match="give a sparsity"):
        sc.prune(model_of("llama"), "slicegpt", params=0.8, task=task())


@pytest.mark.parametrize("name", NOT_ROTATABLE)
def test_models_that_cannot_be_rotated_are_named_and_left_alone(name):
    model = model_of(name)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(sc.SubjectError, match="not rotatable"):
        sc.prune(model, "slicegpt", sparsity=0.25, task=replace(task(), metrics={}, loss=lambda out, b: out[0].mean()))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_bfloat16_stays_bfloat16():
    model = model_of("llama").bfloat16()
    result = sc.prune(model, "slicegpt", sparsity=0.25, task=task())
    assert {p.dtype for p in result.subject.parameters()} == {torch.bfloat16}
    alike = sliced().subject
    assert apart(logits(result.subject, ids()).float(), logits(alike, ids())) < 0.2


def test_it_trains_on_and_can_be_healed():
    result = sliced(heal=1)
    assert result.provenance["train_steps"] > 0 and result.metrics["perplexity"] < sliced().metrics["perplexity"]


def test_adapters_heal_it_and_are_merged(tmp_path):
    healing = "fine-tune(epochs=2, lr=0.005, optimizer=adamw)+parameter-efficient(subsets=[lora], rank=4)"
    result = sliced(recovery=healing)
    assert result.metrics["perplexity"] < sliced().metrics["perplexity"]
    names = {name for name, _ in result.subject.named_parameters()}
    assert names == {name for name, _ in sliced().subject.named_parameters()}
    loaded = sc.load(result.save(tmp_path / "out"))
    assert torch.equal(logits(loaded, ids()), logits(result.subject, ids()))


@pytest.mark.parametrize("name", ROTATABLE)
def test_saved_and_loaded_it_is_the_same_and_generates_with_its_cache(name, tmp_path):
    result = sliced(name)
    result.save(tmp_path / "out")
    loaded = sc.load(tmp_path / "out")
    assert torch.equal(logits(loaded, ids()), logits(result.subject, ids()))
    told = [
        model.generate(ids(1, 6), max_new_tokens=8, do_sample=False, use_cache=cache)
        for model in (loaded, result.subject)
        for cache in (True, False)
    ]
    assert all(torch.equal(one, told[0]) for one in told)


def test_from_a_shell_it_is_pruned_and_read_again_in_a_fresh_process(tmp_path):
    """One call of the command; the original folder is gone when the result is read."""
    dense, out = tmp_path / "dense", tmp_path / "out"
    model_of("llama, tied").save_pretrained(dense)
    np.save(tmp_path / "ids.npy", TEXT.numpy())
    words = f"--method slicegpt --sparsity 0.25 --calibrate {tmp_path / 'ids.npy'} --windows 16 --length 12"
    secateur("prune", dense, *words.split(), "-o", out, check=0)
    shutil.rmtree(dense)
    here = sc.load(out)
    given = {"attention_mask": torch.ones_like(ids()), "max_new_tokens": 5, "do_sample": False}
    assert generated_elsewhere([out], ids(), 5) == [here.generate(ids(), **given).tolist()]
    assert here.model.layers[0].self_attn.q_proj.in_features == 24
