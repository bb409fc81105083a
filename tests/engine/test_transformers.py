"""Cut models of transformers: sizes that differ by layer, reloaded elsewhere, generating with a cache."""

import pytest
import torch
from torch import nn

import secateur as sc
from commands import generated_elsewhere

transformers = pytest.importorskip("transformers")

IDS = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(0))


def llama():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4}
    ends = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(intermediate_size=48, **sizes, **ends)).eval()


def cut(model, **target):
    recipe = sc.Recipe(structure=sc.structures.Channels(), score=sc.scores.Magnitude(2), budget=sc.budgets.Global())
    return sc.prune(model, recipe, example={"input_ids": IDS}, **target)


def generated(model):
    given = {"attention_mask": torch.ones_like(IDS[:, :4]), "max_new_tokens": 6, "do_sample": False}
    return model.generate(IDS[:, :4], **given).tolist()


@pytest.fixture(scope="module")
def result():
    return cut(llama(), params=0.5)


def test_layers_end_with_different_sizes(result):
    sizes = {
        tuple(layer.self_attn.q_proj.weight.shape + layer.mlp.up_proj.weight.shape)
        for layer in result.subject.model.layers
    }
    assert len(sizes) == 2


def test_the_target_is_met(result):
    assert result.after["params"] / result.before["params"] == pytest.approx(0.5, rel=0.02)


def test_a_step_with_the_cache_equals_the_whole_sequence(result):
    model = result.subject
    with torch.no_grad():
        past = model(IDS[:, :8], use_cache=True).past_key_values
        step = model(IDS[:, 8:9], past_key_values=past, use_cache=True).logits
        whole = model(IDS[:, :9], use_cache=False).logits[:, -1:]
    torch.testing.assert_close(step, whole)


def test_a_fresh_process_generates_the_same(result, tmp_path):
    folder = result.save(tmp_path / "cut")
    assert generated_elsewhere([folder], IDS[:, :4], 6) == [generated(result.subject)]


def test_another_model_is_refused(tmp_path):
    import secateur.transformers

    folder = sc.prune(nn.Linear(4, 4), "magnitude", sparsity=0.5).save(tmp_path / "linear")
    with pytest.raises(sc.CheckpointError, match=r"sc\.load"):
        secateur.transformers.from_pretrained(folder)


def mixtral():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    routes = {"num_local_experts": 6, "num_experts_per_tok": 2, "vocab_size": 60}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.MixtralConfig(intermediate_size=48, **sizes, **routes, **ends)
    return transformers.MixtralForCausalLM(config).eval()


@pytest.fixture(scope="module")
def fewer_experts():
    """Half of the experts gone, which torch's product of groups computes."""
    experts = sc.structures.Channels(kinds=("experts",))
    return sc.prune(mixtral(), "magnitude", structure=experts, sparsity=0.5, example={"input_ids": IDS})


def test_experts_go_with_their_rows_of_the_router(fewer_experts):
    for layer in fewer_experts.subject.model.layers:
        assert layer.mlp.gate.weight.shape == (3, 32)
        assert len(layer.mlp.experts.gate_up_proj) == len(layer.mlp.experts.down_proj) == 3


def test_as_many_experts_stay_as_a_token_asks():
    experts = sc.structures.Channels(kinds=("experts",))
    found = experts.find(mixtral(), {"input_ids": IDS})
    assert {(g.size, g.floor) for g in found} == {(6, 2)}


def test_a_model_of_fewer_experts_trains_and_tells_how_they_are_balanced(fewer_experts):
    model = fewer_experts.subject
    found = model(input_ids=IDS, labels=IDS, output_router_logits=True)
    assert found.router_logits[0].shape[-1] == 3
    found.loss.backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
    model.zero_grad()


def test_a_model_of_fewer_experts_is_read_back_and_generates_the_same(fewer_experts, tmp_path):
    import secateur.transformers

    loaded = secateur.transformers.from_pretrained(fewer_experts.save(tmp_path / "cut"))
    assert loaded.config._experts_implementation == fewer_experts.subject.config._experts_implementation
    assert generated(loaded) == generated(fewer_experts.subject)


def test_rows_of_experts_stay_aligned_for_the_product_of_groups():
    model = mixtral()
    assert model.get_experts_implementation()[""] == "grouped_mm"
    result = cut(model, macs=0.5)
    for layer in result.subject.model.layers:
        _, inner, width = layer.mlp.experts.gate_up_proj.shape
        assert width % 4 == 0 and (inner // 2) % 4 == 0
    result.subject(input_ids=IDS)


def test_how_experts_are_computed_is_left_as_it_was():
    for way in ("eager", "grouped_mm", "batched_mm"):
        model = mixtral()
        model.set_experts_implementation(way)
        sc.structures.Channels().find(model, {"input_ids": IDS})
        assert model.get_experts_implementation()[""] == way


def test_looking_at_a_model_leaves_no_hooks_in_it():
    model = mixtral()

    def hooks():
        return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]

    before = hooks()
    sc.structures.Channels().find(model, {"input_ids": IDS, "output_hidden_states": True})
    assert hooks() == before
    assert len(model(input_ids=IDS, output_hidden_states=True).hidden_states) == 3
