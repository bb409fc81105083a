"""Language models of transformers that lost blocks or sublayers by shortgpt and finercut: saved, loaded, generating."""

import pytest
import torch

import secateur as sc

transformers = pytest.importorskip("transformers")

_ENDS = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
GIVEN = {"input_ids": torch.randint(3, 60, (3, 12), generator=torch.Generator().manual_seed(0))}
GIVEN["attention_mask"] = torch.ones_like(GIVEN["input_ids"])
GIVEN["attention_mask"][0, :4] = 0


def llama():
    config = transformers.LlamaConfig(num_key_value_heads=2, intermediate_size=48, **_SIZES, **_ENDS)
    return transformers.LlamaForCausalLM(config)


def qwen2():
    config = transformers.Qwen2Config(num_key_value_heads=2, intermediate_size=48, **_SIZES, **_ENDS)
    return transformers.Qwen2ForCausalLM(config)


def gpt2():
    config = transformers.GPT2Config(n_embd=32, n_layer=4, n_head=4, n_positions=32, **_ENDS)
    return transformers.GPT2LMHeadModel(config)


def opt():
    config = transformers.OPTConfig(
        ffn_dim=48, max_position_embeddings=32, word_embed_proj_dim=32, dropout=0.0, **_SIZES, **_ENDS
    )
    return transformers.OPTForCausalLM(config)


def bert():
    config = transformers.BertConfig(intermediate_size=48, max_position_embeddings=32, **_SIZES, **_ENDS)
    return transformers.BertForMaskedLM(config)


CAUSAL = [llama, qwen2, gpt2, opt]


def built(family):
    torch.manual_seed(0)
    return family().eval()


def task():
    def loss(outputs, batch):
        return torch.nn.functional.cross_entropy(outputs.logits.flatten(0, 1), batch["input_ids"].flatten())

    return sc.Task(train=[GIVEN], test=[GIVEN], loss=loss, metrics={})


def shorter(family, method, sparsity, **settings):
    return sc.prune(built(family), method, sparsity=sparsity, task=task(), **settings)


@torch.no_grad()
def generated(model):
    ids = GIVEN["input_ids"][:, :6]
    given = {"attention_mask": GIVEN["attention_mask"][:, :6], "max_new_tokens": 6, "do_sample": False}
    return [model.eval().generate(ids, use_cache=cache, **given).tolist() for cache in (True, False)]


@pytest.mark.parametrize("family", CAUSAL)
@pytest.mark.parametrize(
    "method, settings",
    [("shortgpt", {}), ("shortgpt", {"which": "contiguous"}), ("finercut", {}), ("finercut", {"front": 0.0})],
)
def test_a_reloaded_model_generates_with_its_cache_what_the_one_in_memory_does(family, method, settings, tmp_path):
    result = shorter(family, method, 0.5, **settings)
    assert sum(result.keep.counts.values()) * 2 == sum(m.numel() for m in result.keep.masks.values())
    loaded = sc.load(result.save(tmp_path / "shorter"))
    cached, plain = generated(result.subject)
    assert cached == plain and generated(loaded) == [cached, cached]


@pytest.mark.parametrize("family", CAUSAL)
def test_block_0_without_attention_generates(family, tmp_path):
    model = built(family)
    with torch.no_grad():
        for name, p in model.named_parameters():  # what it adds is nothing, so it goes first
            if any(
                f".0.{attention}" in name for attention in ("self_attn.o_proj", "self_attn.out_proj", "attn.c_proj")
            ):
                p.zero_()
    result = sc.prune(model, "finercut", sparsity=0.13 if family is not opt else 0.25, task=task(), front=0.0)
    (mask,) = result.keep.masks.values()
    assert mask.tolist() == [False] + [True] * (len(mask) - 1)
    loaded = sc.load(result.save(tmp_path / "shorter"))
    cached, plain = generated(result.subject)
    assert cached == plain and generated(loaded) == [cached, cached]


def test_an_encoder_loses_blocks_and_is_loaded_again(tmp_path):
    result = shorter(bert, "shortgpt", 0.5)
    loaded = sc.load(result.save(tmp_path / "shorter")).eval()
    assert loaded.config.num_hidden_layers == 2
    with torch.no_grad():
        assert torch.equal(loaded(**GIVEN).logits, result.subject(**GIVEN).logits)


@pytest.mark.parametrize("family", [*CAUSAL, bert])
def test_what_stands_in_padding_does_not_change_what_goes(family):
    first = shorter(family, "shortgpt", 0.5).keep
    ids = GIVEN["input_ids"]
    try:
        kept = ids[0, :4].clone()
        ids[0, :4] = 7
        assert shorter(family, "shortgpt", 0.5).keep == first
    finally:
        ids[0, :4] = kept


def test_all_attentions_of_a_model_with_a_cache_stay_even_by_force():
    with pytest.raises(sc.SubjectError, match="no layer with a cache would stay"):
        sc.prune(built(llama), "finercut", sparsity=0.99, task=task(), force=True, exclude=("*.mlp",))
