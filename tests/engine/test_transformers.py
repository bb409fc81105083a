"""Cut models of transformers: sizes that differ by layer, reloaded elsewhere, generating with a cache."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import secateur as sc

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
    code = (
        "import sys, torch, secateur.transformers as st\n"
        f"ids = torch.tensor({IDS[:, :4].tolist()})\n"
        "model = st.from_pretrained(sys.argv[1])\n"
        "given = {'attention_mask': torch.ones_like(ids), 'max_new_tokens': 6, 'do_sample': False}\n"
        "print(model.generate(ids, **given).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == str(generated(result.subject)), done.stderr


def test_another_model_is_refused(tmp_path):
    import secateur.transformers

    folder = sc.prune(nn.Linear(4, 4), "magnitude", sparsity=0.5).save(tmp_path / "linear")
    with pytest.raises(sc.CheckpointError, match=r"sc\.load"):
        secateur.transformers.from_pretrained(folder)
