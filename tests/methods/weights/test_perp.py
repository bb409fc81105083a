"""PERP on tiny language models: which parameters it finds there, and what stays. The claims are in claims/perp.py."""

import pytest
import torch

import secateur as sc
from secateur.core import RecipeError, registry
from secateur.recovery import FineTune
from secateur.recovery.tiny_subsets import chosen, is_language_model
from secateur.tasks.language import Windows, language_task, random_windows

transformers = pytest.importorskip("transformers")
ENDS = {"bos_token_id": 0, "eos_token_id": 1}
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def llama(tied=True):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=32,
        tie_word_embeddings=tied,
        **ENDS,
    )
    return transformers.LlamaForCausalLM(config).eval()


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=32, tie_word_embeddings=False, **ENDS)
    return transformers.GPT2LMHeadModel(config).eval()


def task():
    ids = torch.randint(32, (600,), generator=torch.Generator().manual_seed(0))
    return language_task(random_windows(ids, 8, 16, 0), Windows(ids[:80], 8), "tokens", batch_size=4)


def prune(model, **settings):
    return sc.prune(model, "perp", sparsity=0.5, task=task(), rank=2, **settings)


def test_a_llama_has_norms_and_linear_layers_but_no_biases_and_no_head_of_its_own():
    found = chosen(llama(), ("biases", "norm", "lora", "head"))
    assert {n.rpartition(".")[2] for n in found.adapted} == set(LINEAR) and len(found.adapted) == 14
    assert sorted(found.whole) == sorted(n for n, _ in llama().named_parameters() if "norm" in n)
    assert found.missing == {
        "biases": "LlamaForCausalLM has no biases",
        "head": "the weight of lm_head is also model.embed_tokens.weight",
    }


@pytest.mark.parametrize("subsets, named", [(("biases",), "biases: Llama"), (("head",), "is also model.embed_tokens")])
def test_a_subset_that_a_llama_lacks_is_an_error_where_it_is_all_there_is(subsets, named):
    with pytest.raises(RecipeError, match=named):
        prune(llama(), subsets=subsets)


@pytest.mark.parametrize("variant", ["mask_lora", "scale_lora", "lora_prune"])
def test_a_llama_keeps_its_names_its_zeros_and_what_is_frozen(variant):
    before = llama().state_dict()
    result = prune(llama(), lora=variant)
    state = result.subject.state_dict()
    assert list(state) == list(before)
    assert torch.equal(state["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert all((state[n][~mask] == 0).all() for n, mask in result.masks.items())
    moved = {n for n, mask in result.masks.items() if not torch.equal(state[n], torch.where(mask, before[n], 0))}
    assert {n.split(".")[-2] for n in moved} == set(LINEAR)


def test_the_head_of_a_language_model_gets_an_adapter_and_the_others_stay():
    before = llama(tied=False).state_dict()
    state = prune(llama(tied=False), subsets=("head",), exclude=("lm_head",)).subject.state_dict()
    assert not torch.equal(state["lm_head.weight"], before["lm_head.weight"])
    assert torch.equal(state["model.norm.weight"], before["model.norm.weight"])
    difference = state["lm_head.weight"] - before["lm_head.weight"]
    assert torch.linalg.matrix_rank(difference, rtol=1e-3) <= 2


def test_layers_that_store_their_weight_the_other_way_round_are_adapted():
    before = gpt2().state_dict()
    result = prune(gpt2(), subsets=("lora",), targets=("c_attn", "*.mlp.c_fc"))
    state = result.subject.state_dict()
    changed = {
        n
        for n in before
        if not torch.equal(state[n], torch.where(result.masks.get(n, torch.tensor(True)), before[n], 0))
    }
    assert {n.removeprefix("transformer.h.")[2:] for n in changed} == {"attn.c_attn.weight", "mlp.c_fc.weight"}
    assert all((state[n][~mask] == 0).all() for n, mask in result.masks.items())


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable:FutureWarning")
def test_checkpointing_of_activations_changes_nothing():
    plain, thrifty = llama(), llama()
    thrifty.gradient_checkpointing_enable({"use_reentrant": False})
    one, other = (prune(m).subject.state_dict() for m in (plain, thrifty))
    assert all(torch.equal(one[n], other[n]) for n in one)


def test_a_saved_llama_is_a_plain_one(tmp_path):
    result = prune(llama())
    result.save(tmp_path / "saved")
    loaded = sc.load(tmp_path / "saved")
    ids = torch.arange(6)[None]
    assert torch.equal(loaded(ids).logits, result.subject(ids).logits)


def test_language_models_are_told_by_their_output_embeddings():
    assert is_language_model(llama()) and not is_language_model(llama().model)


def test_its_training_is_the_papers():
    training, subset = registry.get("perp").recipe().recovery
    assert isinstance(training, FineTune)
    assert (training.optimizer, training.lr, training.lr_schedule) == ("adamw", 5e-4, "linear")
    assert (training.weight_decay, training.warmup) == (0.0, 0.1)
    assert (subset.lora, subset.rank, subset.alpha) == ("mask_lora", 16, 32.0)
