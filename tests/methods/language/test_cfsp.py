"""CFSP on language models: only neurons go, blocks that turn their tokens keep more. Claims are in claims/cfsp.py."""

import pytest
import torch

import secateur as sc
from secateur.core import kept_count
from secateur.tasks.language import language_task, random_windows

transformers = pytest.importorskip("transformers")
TEXT = torch.randint(3, 60, (600,), generator=torch.Generator().manual_seed(0))


def llama(layers=3, stds=()):
    torch.manual_seed(0)
    ends = {"vocab_size": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": 8}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **sizes, **ends)).eval()
    with torch.no_grad():
        for layer, times in zip(model.model.layers, stds, strict=False):
            layer.mlp.down_proj.weight.mul_(times)
    return model


def task(count=16):
    return language_task(random_windows(TEXT, 12, count, 0), random_windows(TEXT, 12, 4, 99), "tiny", batch_size=4)


def widths(model):
    return [layer.mlp.gate_proj.out_features for layer in model.model.layers]


def test_only_neurons_go_and_exactly_as_many_as_asked():
    result = sc.prune(llama(), "cfsp", sparsity=0.3, task=task())
    assert sum(widths(result.subject)) == kept_count(0.3, 3 * 48)
    assert all(layer.self_attn.q_proj.out_features == 32 for layer in result.subject.model.layers)


def test_a_block_that_turns_its_tokens_keeps_more_neurons():
    stay = widths(sc.prune(llama(stds=(1, 300, 1)), "cfsp", sparsity=0.5, task=task()).subject)
    assert stay[1] > max(stay[0], stay[2])


def test_equal_shares_may_be_asked_for():
    model = llama(stds=(1, 300, 1))
    assert widths(sc.prune(model, "cfsp", sparsity=0.5, coarse="constant", task=task()).subject) == [24, 24, 24]


def test_the_released_form_grows_with_calibration_and_ours_does_not():
    def spread(compat, count):
        stay = widths(sc.prune(llama(stds=(1, 300, 1)), "cfsp", sparsity=0.5, compat=compat, task=task(count)).subject)
        return max(stay) - min(stay)

    assert spread("release", 16) <= 1 < spread("none", 16)


def test_counts_are_rounded_for_kernels():
    result = sc.prune(llama(stds=(1, 300, 1)), "cfsp", sparsity=0.5, round_to=16, task=task())
    assert not any(n % 16 for n in widths(result.subject))
    with pytest.raises(sc.RecipeError, match="24 at most"):
        sc.prune(llama(), "cfsp", sparsity=0.5, round_to=32, task=task())


def test_neurons_of_zero_go_first_and_change_nothing():
    model = llama()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.up_proj.weight[:12] = 0
    before = model(TEXT[None, :12]).logits.detach()
    result = sc.prune(model, "cfsp", sparsity=0.25, coarse="constant", task=task())
    assert all(not mask[:12].any() for mask in result.keep.masks.values())
    torch.testing.assert_close(result.subject(TEXT[None, :12]).logits.detach(), before)
