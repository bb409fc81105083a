"""Checkpoints pruned from disk to disk: the same bits as in memory, after a kill as well; and what is refused."""

import json
import signal

import blocks_driver
import pytest
import torch
import transformers as tf
from blocks_driver import task

import secateur as sc
from commands import forked
from secateur.core import CheckpointError, RecipeError


def llama(layers=3):
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        tie_word_embeddings=True,
    )
    return tf.LlamaForCausalLM(config).eval()


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "dense"
    llama().save_pretrained(place, max_shard_size="20KB")
    assert len(list(place.glob("*.safetensors"))) > 2
    return place


def weights(place):
    return tf.AutoModelForCausalLM.from_pretrained(place).state_dict()


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        ("wanda", {"sparsity": 0.5}),
        ("sparsegpt", {"structure": "2:4"}),
        ("owl", {"sparsity": 0.6}),
        ("wanda", {"sparsity": 0.5, "propagation": "stages"}),
        ("wanda", {"sparsity": 0.5, "recovery": "reconstruct(steps=8, subsets=[norm, lora], rank=2)"}),
        ("wanda", {"sparsity": 0.5, "recovery": "reconstruct(steps=8, subsets=all)"}),
    ],
)
def test_it_gives_what_pruning_in_memory_gives(folder, tmp_path, method, asked):
    done = sc.prune_folder(folder, method, tmp_path / "small", task=task(), **asked)
    in_memory = sc.prune(tf.AutoModelForCausalLM.from_pretrained(folder).eval(), method, task=task(), **asked)
    for name, value in weights(tmp_path / "small").items():
        assert torch.equal(value, in_memory.subject.state_dict()[name]), name
    assert done.sparsity == pytest.approx(in_memory.sparsity["sparsity"], abs=1e-9)
    told = json.loads((tmp_path / "small" / "pruning.json").read_text())
    assert [b["block"] for b in told["blocks"]] == [b["block"] for b in in_memory.history[0]["blocks"]][
        -len(told["blocks"]) :
    ]
    assert not (tmp_path / "small.part").exists() and not list((tmp_path / "small").glob("activations*"))


def test_with_little_memory_activations_lie_on_disk_and_nothing_changes(folder, tmp_path):
    free = sc.prune_folder(folder, "wanda", tmp_path / "a", task=task(), sparsity=0.5)
    tight = sc.prune_folder(folder, "wanda", tmp_path / "b", task=task(), sparsity=0.5, memory=free.bound - 1)
    assert tight.bound < free.bound
    assert all(torch.equal(v, weights(tmp_path / "b")[n]) for n, v in weights(tmp_path / "a").items())


def test_too_little_memory_says_how_much_is_needed(folder, tmp_path):
    with pytest.raises(RecipeError, match=r"MiB are needed at once"):
        sc.prune_folder(folder, "wanda", tmp_path / "a", task=task(), sparsity=0.5, memory=1000)


def killed(folder, out, after):
    """What a process leaves that is killed as it writes its next block after so many."""
    died = forked(blocks_driver.prune_folder_and_die, str(folder), str(out), after)
    assert died.returncode == -signal.SIGKILL, died.stderr


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_kill_at_any_block_loses_no_finished_one(folder, tmp_path, after):
    out = tmp_path / "small"
    killed(folder, out, after)
    assert not out.exists()
    finished = json.loads((tmp_path / "small.part" / "progress.json").read_text())["blocks"]
    assert len(finished) == min(after, 3)
    sc.prune_folder(folder, "sparsegpt", out, task=task(), sparsity=0.5)
    sc.prune_folder(folder, "sparsegpt", tmp_path / "whole", task=task(), sparsity=0.5)
    assert all(torch.equal(v, weights(out)[n]) for n, v in weights(tmp_path / "whole").items())


def test_weights_of_16_bits_are_stored_so_and_later_blocks_hear_them_so(tmp_path):
    llama().to(torch.bfloat16).save_pretrained(tmp_path / "dense")
    sc.prune_folder(tmp_path / "dense", "sparsegpt", tmp_path / "small", task=task(), sparsity=0.5)
    found = tf.AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype="auto")
    assert found.dtype == torch.bfloat16
    weight = found.model.layers[2].mlp.down_proj.weight
    assert int((weight == 0).sum()) >= weight.numel() // 2


def test_another_call_does_not_go_on_with_what_was_begun(folder, tmp_path):
    out = tmp_path / "small"
    killed(folder, out, 1)
    with pytest.raises(CheckpointError, match="another recipe"):
        sc.prune_folder(folder, "sparsegpt", out, task=task(), sparsity=0.6)


def test_what_is_there_is_not_overwritten(folder, tmp_path):
    (tmp_path / "small").mkdir()
    with pytest.raises(CheckpointError, match="there already"):
        sc.prune_folder(folder, "wanda", tmp_path / "small", task=task(), sparsity=0.5)


def test_a_missing_shard_is_named(folder, tmp_path):
    gone = sorted(folder.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(CheckpointError, match=gone.name):
        sc.prune_folder(folder, "wanda", tmp_path / "small", task=task(), sparsity=0.5)


def test_a_damaged_shard_is_named(folder, tmp_path):
    hurt = sorted(folder.glob("*.safetensors"))[1]
    hurt.write_bytes(hurt.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=hurt.name):
        sc.prune_folder(folder, "wanda", tmp_path / "small", task=task(), sparsity=0.5)


@pytest.mark.parametrize("method", ["spa", "lamp", "gmp"])
def test_what_needs_the_whole_model_is_refused(folder, tmp_path, method):
    with pytest.raises(RecipeError, match="from disk to disk"):
        sc.prune_folder(folder, method, tmp_path / "small", task=task(), sparsity=0.5)
