"""FLAP on language models: what goes, what the bias keeps, saving, generating, composing. See claims/flap.py."""

import logging
from dataclasses import replace

import pytest
import torch

import secateur as sc
from commands import generated_elsewhere
from secateur.core import AddBias, registry
from secateur.recovery import BiasCompensation
from secateur.scores import WandaSP
from secateur.structures import Channels
from secateur.tasks.language import language_task, random_windows

transformers = pytest.importorskip("transformers")
TEXT = torch.randint(3, 60, (600,), generator=torch.Generator().manual_seed(0))
ENDS = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 8}


def _decoder(name, **more):
    sizes = LLAMA | {"num_key_value_heads": 2} | ENDS | more
    return getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**sizes))


MAKERS = {
    "llama": lambda: _decoder("Llama"),
    "qwen2": lambda: _decoder("Qwen2"),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **ENDS)
    ),
    "opt": lambda: transformers.OPTForCausalLM(
        transformers.OPTConfig(
            hidden_size=32,
            ffn_dim=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            word_embed_proj_dim=32,
            max_position_embeddings=64,
            **ENDS,
        )
    ),
    "bert": lambda: transformers.BertForMaskedLM(
        transformers.BertConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            **ENDS,
        )
    ),
}


def model_of(name="llama"):
    torch.manual_seed(0)
    return MAKERS[name]().eval()


def task(seed=0, count=16):
    return language_task(random_windows(TEXT, 12, count, seed), random_windows(TEXT, 12, 4, 99), "tiny", batch_size=4)


def layers_of(result):
    return result.subject.model.layers


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("method", ["flap", "cfsp"])
def test_every_kind_of_model_is_cut_saved_and_read_back(name, method, tmp_path):
    result = sc.prune(model_of(name), method, params=0.75, task=task())
    assert result.after["params"] / result.before["params"] == pytest.approx(0.75, abs=0.03)
    loaded = sc.load(result.save(tmp_path / "cut"))
    with torch.no_grad():
        assert torch.equal(loaded(TEXT[None, :12]).logits, result.subject(TEXT[None, :12]).logits)
    added = [a for a in result.plan.actions if isinstance(a, AddBias)]
    assert bool(added) == (method == "flap" and name in ("llama", "qwen2"))


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_a_fresh_process_generates_the_same_with_its_cache(name, tmp_path):
    result = sc.prune(model_of(name), "flap", sparsity=0.4, share_of="params", task=task())
    folder = result.save(tmp_path / "cut")
    start = TEXT[None, :4]
    given = {"attention_mask": torch.ones_like(start), "max_new_tokens": 8, "do_sample": False}
    (elsewhere,) = generated_elsewhere([folder], start, 8)
    assert any(n.endswith("down_proj.bias") and p.any() for n, p in result.subject.named_parameters())
    for cache in (True, False):
        assert elsewhere == result.subject.generate(start, use_cache=cache, **given).tolist()


def test_the_unit_of_attention_is_the_group_where_heads_share_keys():
    def kinds(result):
        return {n.rpartition("/")[2] for n in result.keep.masks if "self_attn" in n}

    result = sc.prune(model_of(), "flap", sparsity=0.5, task=task())
    assert kinds(result) == {"kv-groups"}
    assert kinds(sc.prune(model_of("opt"), "flap", sparsity=0.5, task=task())) == {"heads"}
    assert all(layer.self_attn.k_proj.out_features >= 4 for layer in layers_of(result))


def test_units_whose_inputs_are_constant_go_first_and_change_nothing():
    model = model_of("opt")
    with torch.no_grad():
        for layer in model.model.decoder.layers:
            layer.fc1.weight[:12] = 0
            layer.fc1.bias[:12] = 2.0
    before = model(TEXT[None, :12]).logits.detach()
    result = sc.prune(model, "flap", sparsity=12 / 48, allocation="UL-UM", kinds=("hidden",), task=task())
    assert all(not mask[:12].any() and mask[12:].all() for mask in result.keep.masks.values())
    torch.testing.assert_close(result.subject(TEXT[None, :12]).logits.detach(), before, rtol=1e-4, atol=1e-5)


def test_the_share_may_be_one_of_parameters():
    result = sc.prune(model_of(), "flap", sparsity=0.3, share_of="params", task=task())
    space = Channels(kinds=("attention", "hidden"), streams=False).find(model_of(), {"input_ids": TEXT[None, :12]})
    costs = {g.name: g.costs["params"] for g in space}
    kept = sum(costs[n] * k for n, k in result.keep.counts.items())
    assert kept / sum(costs[g.name] * g.size for g in space) == pytest.approx(0.7, abs=0.03)
    assert sc.prune(model_of(), "flap", sparsity=0.3, task=task()).sparsity["sparsity"] == pytest.approx(0.3, abs=0.005)


def test_wanda_scores_with_flaps_competition_and_bias():
    recipe = sc.Recipe(
        structure=Channels(kinds=("attention", "hidden"), streams=False),
        score=WandaSP("mean", "standard"),
        budget=sc.budgets.Paid(),
        recovery=(BiasCompensation(),),
    )
    result = sc.prune(model_of(), recipe, sparsity=0.3, task=task())
    assert any(isinstance(a, AddBias) for a in result.plan.actions)
    assert len({layer.mlp.gate_proj.out_features for layer in layers_of(result)}) == 2


def test_wanda_scores_flaps_budget_and_perps_healing_are_one_recipe(tmp_path):
    training = sc.recovery.FineTune(1, optimizer="adamw", lr=1e-2)
    perp = sc.recovery.ParameterEfficient(("biases", "norm", "lora"), rank=2, alpha=4.0)
    recipe = sc.Recipe(
        structure=Channels(kinds=("attention", "hidden"), streams=False),
        score=WandaSP("mean", "standard"),
        budget=sc.budgets.Paid(),
        recovery=(BiasCompensation(), training, perp),
    )
    result = sc.prune(model_of(), recipe, sparsity=0.3, task=task())
    unhealed = sc.prune(model_of(), replace(recipe, recovery=recipe.recovery[:1]), sparsity=0.3, task=task())
    assert result.keep.counts == unhealed.keep.counts
    same = dict(unhealed.subject.named_parameters())
    changed = {n for n, p in result.subject.named_parameters() if not torch.equal(p, same[n])}
    assert any("layernorm" in n for n in changed) and any(n.endswith("bias") for n in changed)
    assert "model.embed_tokens.weight" not in changed
    loaded = sc.load(result.save(tmp_path / "small"))
    ids = TEXT[None, :9]
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, result.subject.eval()(ids).logits)


def test_allocations_differ_in_who_competes():
    def by_kind(result):
        heads = [k for n, k in result.keep.counts.items() if n.endswith("kv-groups")]
        return heads, [k for n, k in result.keep.counts.items() if not n.endswith("kv-groups")]

    found = {
        a: by_kind(sc.prune(model_of(), "flap", sparsity=0.25, allocation=a, task=task())) for a in ("AL-MM", "UL-UM")
    }
    assert sum(found["AL-MM"][0]) == 3 and sum(found["AL-MM"][1]) == 72
    assert found["UL-UM"][1] == [36, 36]


def test_a_group_of_heads_and_a_multiple_of_neurons_stay_in_every_layer():
    result = sc.prune(model_of(), "flap", sparsity=0.6, multiple=8, task=task())
    for layer in layers_of(result):
        assert layer.self_attn.k_proj.out_features >= 4
        assert layer.mlp.gate_proj.out_features >= 8 and layer.mlp.gate_proj.out_features % 8 == 0


def test_zeroed_layers_are_average_and_named(caplog):
    model = model_of()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.zero_()
    with caplog.at_level(logging.WARNING):
        sc.prune(model, "flap", sparsity=0.3, task=task())
    assert "layers.0.mlp.down_proj.weight: all columns score alike" in caplog.text


def test_one_sequence_is_too_few():
    with pytest.raises(sc.RecipeError, match="fewer than two sequences"):
        sc.prune(model_of(), "flap", sparsity=0.3, task=task(count=1))


def test_the_released_form_runs_and_differs():
    exact = sc.prune(model_of(), "flap", sparsity=0.3, task=task())
    released = sc.prune(model_of(), "flap", sparsity=0.3, compat="release", task=task())
    assert exact.keep != released.keep


def test_without_a_bias_no_layer_gets_one():
    result = sc.prune(model_of(), "flap", sparsity=0.3, bias=False, task=task())
    assert not any(isinstance(a, AddBias) for a in result.plan.actions)
    assert registry.get("flap").recipe(bias=False).recovery == ()
