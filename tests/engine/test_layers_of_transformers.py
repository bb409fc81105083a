"""Models of transformers that lost whole layers: saved, loaded elsewhere, generating with a cache."""

import json

import pytest
import torch

import secateur as sc
from commands import generated_elsewhere
from secateur.core import Choice, Keep
from secateur.structures import Layers

transformers = pytest.importorskip("transformers")

IDS = torch.randint(3, 60, (2, 12), generator=torch.Generator().manual_seed(0))
EXAMPLE = {"input_ids": IDS}
_ENDS = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}


def llama():
    config = transformers.LlamaConfig(num_key_value_heads=2, **_SIZES, **_ENDS)
    return transformers.LlamaForCausalLM(config)


def gpt2():
    config = transformers.GPT2Config(n_embd=32, n_layer=4, n_head=4, n_positions=32, **_ENDS)
    return transformers.GPT2LMHeadModel(config)


def gemma2():
    """Full attention and sliding windows take turns."""
    config = transformers.Gemma2Config(num_key_value_heads=2, head_dim=8, sliding_window=6, **_SIZES, **_ENDS)
    return transformers.Gemma2ForCausalLM(config)


def gpt_neo():
    """Its layers keep their number under another name."""
    types = {"attention_types": [[["global", "local"], 2]], "window_size": 6, "max_position_embeddings": 32}
    config = transformers.GPTNeoConfig(
        hidden_size=32, num_layers=4, num_heads=4, intermediate_size=48, **types, **_ENDS
    )
    return transformers.GPTNeoForCausalLM(config)


FAMILIES = [llama, gpt2, gemma2]
WITH_CACHE = [*FAMILIES, gpt_neo]


def built(family):
    torch.manual_seed(0)
    return family().eval()


def shorter(family, kind, share=0.5):
    model = built(family)
    return sc.prune(model, "magnitude", structure=kind, sparsity=share, example=EXAMPLE)


@torch.no_grad()
def assert_the_cache_is_right(model):
    """Steps with a cache give what the whole sequence gives."""
    past = model(IDS[:, :7], use_cache=True).past_key_values
    steps = []
    for at in range(7, 12):
        made = model(IDS[:, at : at + 1], past_key_values=past, use_cache=True)
        past = made.past_key_values
        steps.append(made.logits)
    whole = model(IDS, use_cache=False).logits[:, 7:]
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=1e-4)


def generated(model):
    given = {"attention_mask": torch.ones_like(IDS[:, :4]), "max_new_tokens": 6, "do_sample": False}
    return model.generate(IDS[:, :4], **given).tolist()


@pytest.mark.parametrize("family", WITH_CACHE)
@pytest.mark.parametrize("kind", ["layers", "sublayers"])
def test_a_shorter_model_generates_with_its_cache(family, kind):
    assert_the_cache_is_right(shorter(family, kind).subject)


@pytest.mark.parametrize("family", WITH_CACHE)
def test_the_cache_is_right_whichever_sublayer_goes(family):
    looking = Layers(kinds=("sublayers",)).seeing(lambda model: model(**EXAMPLE))
    (group,) = looking.find(built(family))
    for gone in range(group.size):
        model = built(family)
        looking.apply_(model, Choice(Keep({group.name: torch.arange(group.size) != gone})))
        assert_the_cache_is_right(model)


def test_the_first_attention_of_each_kind_stays_where_kinds_differ():
    space = Layers(kinds=("sublayers",)).find(built(gemma2), EXAMPLE)
    assert {path for path, why in space.skipped.items() if "length of the cache" in why} == {
        "model.layers.0.self_attn",
        "model.layers.1.self_attn",
    }


def test_a_fresh_process_generates_the_same(tmp_path):
    made = [
        (shorter(family, kind), family.__name__ + kind) for family in WITH_CACHE for kind in ("layers", "sublayers")
    ]
    folders = [result.save(tmp_path / name) for result, name in made]
    assert generated_elsewhere(folders, IDS[:, :4], 6) == [generated(result.subject) for result, _ in made]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shorter_model_is_also_read_by_transformers_alone(family, tmp_path):
    result = shorter(family, "layers")
    folder = result.save(tmp_path / "short")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(plain(IDS).logits, result.subject(IDS).logits)


def test_the_config_of_before_the_cut_is_kept_where_it_changed(tmp_path):
    folders = {kind: shorter(llama, kind).save(tmp_path / kind) for kind in ("layers", "sublayers")}
    base = {kind: json.loads((folder / "secateur.json").read_text())["base"] for kind, folder in folders.items()}
    assert base["layers"]["config"]["num_hidden_layers"] == 4
    assert json.loads((folders["layers"] / "config.json").read_text())["num_hidden_layers"] == 2
    assert "config" not in base["sublayers"]


def test_layers_and_then_channels_are_loaded_again(tmp_path):
    result = shorter(llama, "layers")
    second = sc.prune(result.subject, "magnitude", structure="hidden", sparsity=0.25, example=EXAMPLE)
    joined = result.plan + second.plan
    model = built(llama)
    joined.replay_(model)
    model.load_state_dict(second.subject.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, second.subject(IDS).logits)


def test_a_config_in_the_manifest_that_wants_code_is_refused(tmp_path):
    result = shorter(llama, "layers")
    result.base["config"]["attn_implementation"] = "someone/kernel"
    with pytest.raises(sc.CheckpointError, match="never chooses code"):
        sc.load(result.save(tmp_path / "hostile"))
