"""LLM-Pruner on language models: what goes, what stays whole, merged adapters, saving. See claims/llm_pruner.py."""

import pytest
import torch

import secateur as sc
from commands import generated_elsewhere
from secateur.core import BudgetError, SubjectError, registry
from secateur.recovery import FineTune, ParameterEfficient
from secateur.tasks.language import language_task, random_windows

transformers = pytest.importorskip("transformers")
TEXT = torch.randint(3, 60, (600,), generator=torch.Generator().manual_seed(0))
ENDS = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 8}


def _decoder(name, layers=3, **more):
    sizes = SIZES | {"num_hidden_layers": layers, "num_key_value_heads": 4} | ENDS | more
    return getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**sizes))


def _gpt2():
    config = transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=64, **ENDS)
    return transformers.GPT2LMHeadModel(config)


def _opt():
    sizes = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = transformers.OPTConfig(**sizes, max_position_embeddings=64, word_embed_proj_dim=32, **ENDS)
    return transformers.OPTForCausalLM(config)


MAKERS = {
    "llama": lambda: _decoder("Llama"),
    "qwen2": lambda: _decoder("Qwen2"),
    "phi": lambda: _decoder("Phi"),
    "gpt2": _gpt2,
    "opt": _opt,
}


def model_of(name="llama", **more):
    torch.manual_seed(0)
    return (_decoder("Llama", **more) if more else MAKERS[name]()).eval()


def task(count=10):
    return language_task(random_windows(TEXT, 12, count, 0), random_windows(TEXT, 12, 4, 99), "tiny", batch_size=5)


def by_layer(result):
    """Heads or groups of them, and neurons, that stay, by the number of the block."""
    found = {}
    for name, stays in result.keep.counts.items():
        found.setdefault(int(next(p for p in name.split(".") if p.isdigit())), []).append(stays)
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_of_model_is_cut_healed_saved_and_read_back(name, tmp_path):
    result = sc.prune(model_of(name), "llm-pruner", sparsity=0.25, first=1, last=1, task=task())
    assert set(by_layer(result)) == {1}
    assert result.sparsity["sparsity"] == pytest.approx(0.25, abs=0.011)  # half a unit of two
    assert result.after["params"] < result.before["params"]
    assert not any("lora" in n for n, _ in result.subject.named_parameters())
    assert result.provenance["parameter_efficient"]["adapted"] and result.provenance["train_steps"] == 4
    loaded = sc.load(result.save(tmp_path / "cut"))
    with torch.no_grad():
        assert torch.equal(loaded(TEXT[None, :12]).logits, result.subject(TEXT[None, :12]).logits)


def test_a_fresh_process_generates_the_same_with_its_cache(tmp_path):
    result = sc.prune(model_of(), "llm-pruner", sparsity=0.25, first=1, lr=0.01, task=task())
    folder = result.save(tmp_path / "cut")
    start = TEXT[None, :4]
    given = {"attention_mask": torch.ones_like(start), "max_new_tokens": 8, "do_sample": False}
    assert [m.self_attn.k_proj.out_features for m in result.subject.model.layers] == [16, 12, 12]
    (elsewhere,) = generated_elsewhere([folder], start, 8)
    for cache in (True, False):
        assert elsewhere == result.subject.generate(start, use_cache=cache, **given).tolist()


def test_units_that_do_nothing_go_first_and_change_nothing():
    model = model_of()
    with torch.no_grad():
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            attention.k_proj.weight[:4] = attention.v_proj.weight[:4] = 0  # one group of keys, two heads of four
            attention.q_proj.weight[:8] = 0
            attention.o_proj.weight[:, :8] = 0
            mlp.gate_proj.weight[::4] = mlp.up_proj.weight[::4] = 0
            mlp.down_proj.weight[:, ::4] = 0
        before = model(TEXT[None, :12]).logits
    result = sc.prune(model, "llm-pruner", sparsity=0.25, taylor="param_mix", epochs=0, task=task())
    for name, mask in result.keep.masks.items():
        gone = [0] if name.endswith("kv-groups") else list(range(0, 48, 4))
        assert (~mask).nonzero().flatten().tolist() == gone
    with torch.no_grad():
        torch.testing.assert_close(result.subject(TEXT[None, :12]).logits, before, rtol=1e-5, atol=1e-6)


def test_ends_scale_with_the_depth():
    result = sc.prune(model_of(layers=8), "llm-pruner", sparsity=0.25, epochs=0, task=task())
    assert by_layer(result) == {i: [3, 36] for i in range(1, 7)}
    skipped = result.sparsity["skipped"]["model.layers.7.mlp.gate_proj"]
    assert skipped == "one of the last 1 of 8 blocks, which stay whole"


def test_layers_may_compete():
    result = sc.prune(model_of(), "llm-pruner", sparsity=0.25, scope="global", epochs=0, task=task())
    assert sum(result.keep.counts.values()) == 117 and len(set(map(tuple, by_layer(result).values()))) > 1


def test_a_group_that_would_lose_all_is_refused_and_named():
    model = model_of()
    with pytest.raises(BudgetError, match=r"(?s)none of 4 units.*self_attn.q_proj/kv-groups.*0\.75 at most"):
        sc.prune(model, "llm-pruner", sparsity=0.9, task=task())
    assert model.config.num_key_value_heads == 4 and model.model.layers[0].self_attn.k_proj.out_features == 16


def test_a_pass_that_fails_names_the_module():
    model = model_of()
    model.model.layers[1].mlp.down_proj = torch.nn.Linear(40, 32)
    with pytest.raises(SubjectError, match=r"module 'model\.layers\.1\.mlp\.down_proj'"):
        sc.prune(model, "llm-pruner", sparsity=0.25, task=task(), example=TEXT[None, :12])


def test_frozen_models_are_refused():
    model = model_of().requires_grad_(False)
    with pytest.raises(SubjectError, match="all parameters are frozen"):
        sc.prune(model, "llm-pruner", sparsity=0.25, task=task())
    with pytest.raises(SubjectError, match="the score needs gradients"):
        sc.prune(model, "llm-pruner", sparsity=0.25, task=task(), epochs=0)


def test_adapters_of_a_smaller_model_are_merged_into_it():
    """With the adapters left beside the weights, the same run gives the same logits."""

    def run(variant):
        training = registry.get("llm-pruner").recipe(lr=0.01).recovery[0]
        assert isinstance(training, FineTune)
        heals = (training, ParameterEfficient(("lora",), variant, rank=8, alpha=16.0))
        result = sc.prune(model_of(), "llm-pruner", sparsity=0.25, task=task(), recovery=heals)
        with torch.no_grad():
            return result.subject, result.subject(TEXT[None, :12]).logits

    (merged, after), (beside, before) = run("mask_lora"), run("lora")
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)
    assert [n for n, _ in merged.named_parameters()] == [n for n, _ in beside.named_parameters() if "lora" not in n]
    untrained = sc.prune(model_of(), "llm-pruner", sparsity=0.25, task=task(), epochs=0).subject
    assert not torch.equal(untrained.model.layers[0].mlp.up_proj.weight, merged.model.layers[0].mlp.up_proj.weight)
    assert torch.equal(untrained.model.embed_tokens.weight, merged.model.embed_tokens.weight)


def test_the_width_of_the_model_may_go_instead():
    stream = sc.structures.Channels(include=("model.embed_tokens",))
    result = sc.prune(model_of(), "llm-pruner", sparsity=0.25, structure=stream, epochs=0, task=task())
    assert result.subject.model.embed_tokens.weight.shape == (60, 24)
