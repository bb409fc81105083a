"""Texts as tasks, perplexity in full windows, and the command line of language models."""

import json
import math

import numpy as np
import pytest
import torch
import transformers as tf
from torch import nn

from commands import secateur
from secateur.cli.work import bytes_of
from secateur.core import RecipeError
from secateur.engine.texts import calibration_task, perplexity, tokens_of


class Bigram(nn.Module):
    """Logits that depend on the token alone."""

    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, ids):
        return self.table[ids]


def test_perplexity_is_that_of_full_windows_each_seen_alone():
    table = torch.randn(7, 7, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(7, (23,), generator=torch.Generator().manual_seed(1))
    found = perplexity(Bigram(table), ids, 5)
    logs = table.log_softmax(-1)
    losses = [-logs[ids[i], ids[i + 1]] for w in range(4) for i in range(5 * w, 5 * w + 4)]
    assert found["perplexity"] == pytest.approx(math.exp(sum(float(x) for x in losses) / 16), rel=1e-5)
    assert (found["windows"], found["length"], found["tokens"]) == (4, 5, 20)


def test_a_text_below_one_window_is_refused():
    with pytest.raises(RecipeError, match="do not fill a window"):
        perplexity(Bigram(torch.zeros(7, 7)), torch.arange(4), 5)


@pytest.fixture
def ids(tmp_path):
    place = tmp_path / "ids.npy"
    np.save(place, np.random.default_rng(0).integers(0, 64, 3000))
    return place


def test_token_ids_come_from_an_array(ids):
    assert tokens_of(str(ids), "nowhere").shape == (3000,)


def test_windows_depend_on_the_seed_alone(ids):
    config = tf.LlamaConfig(vocab_size=64, max_position_embeddings=32)
    draws = [torch.stack(list(calibration_task(str(ids), "", config, windows=4, seed=s).train)) for s in (0, 0, 1)]
    assert draws[0].shape == (4, 32)
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_another_tokenizer_than_the_models_is_noticed(ids):
    with pytest.raises(RecipeError, match="the model knows 50"):
        calibration_task(str(ids), "", tf.LlamaConfig(vocab_size=50))


def test_too_little_text_says_how_much_there_is(ids):
    with pytest.raises(RecipeError, match="it has 3000 tokens"):
        calibration_task(str(ids), "", tf.LlamaConfig(vocab_size=64), length=4000)


def test_what_is_no_text_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="no such text"):
        tokens_of(str(tmp_path / "nowhere.txt"), "")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="no text"):
        tokens_of(str(tmp_path / "x.txt"), "")


@pytest.mark.parametrize(("text", "size"), [("8GiB", 8 << 30), ("1.5 MB", 1_500_000), ("4096", 4096), ("2kib", 2048)])
def test_sizes_of_memory(text, size):
    assert bytes_of(text) == size


def test_what_is_no_size_is_refused():
    with pytest.raises(RecipeError, match="no size"):
        bytes_of("much")


def run(*arguments):
    return secateur(*arguments, check=0).stdout


@pytest.fixture
def dense(tmp_path):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = tf.LlamaConfig(vocab_size=64, max_position_embeddings=32, **shape, bos_token_id=1, eos_token_id=2)
    tf.LlamaForCausalLM(config).save_pretrained(tmp_path / "dense")
    return tmp_path / "dense"


@pytest.fixture
def speaking(dense):
    """The model with a tokenizer of single words beside it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({f"w{i:02}": i for i in range(64)}, unk_token="w00"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tf.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w63").save_pretrained(dense)
    return dense


@pytest.fixture
def text():
    numbers = np.random.default_rng(0).integers(0, 64, 600)
    return " ".join(f"w{i:02}" for i in numbers)


def test_the_command_line_prunes_and_measures_in_memory_and_from_disk_to_disk(ids, dense, tmp_path):
    asked = ["--method", "wanda", "--pattern", "2:4", "--calibrate", ids, "--windows", 4]
    told = run("prune", dense, *asked, "-o", tmp_path / "a")
    assert "model.layers.1" in told and "repaired" in told
    told = run("prune", dense, *asked, "-o", tmp_path / "b", "--memory", "1GiB", "--json")
    assert json.loads(told)["sparsity"] == 0.5
    a, b = (run("evaluate", tmp_path / f, "--perplexity", ids, "--json") for f in "ab")
    assert json.loads(a)["perplexity"] == json.loads(b)["perplexity"]


@pytest.mark.parametrize(
    "flags, why",
    [
        (["--pattern", "2:4", "--structure", "weights"], "--structure does not go with --pattern"),
        (["--calibrate", "x", "--task", "builtin:digits"], "--task does not go with --calibrate"),
        (["--memory", "1GiB", "--heal", "1"], "--heal does not go with --memory"),
        (["--memory", "1GiB", "--input", "1,4"], "--input does not go with --memory"),
    ],
)
def test_flags_that_would_be_ignored_are_refused(dense, tmp_path, flags, why):
    done = secateur("prune", dense, "-m", "wanda", "-s", "0.5", *flags, "-o", tmp_path / "out")
    assert done.returncode == 2 and why in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there_is_called_that(tmp_path):
    done = secateur("evaluate", f"{tmp_path}/nowhere/", "--perplexity", "x")
    assert done.returncode == 2 and "there is no" in done.stderr and "nowhere" in done.stderr


def test_the_tokenizer_goes_along_and_a_datasets_text_is_read(speaking, text, tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "train.txt").write_text(text)
    named = f"dataset:{tmp_path / 'texts'}"
    run("prune", speaking, "-m", "wanda", "-s", "0.5", "--calibrate", named, "--windows", 4, "-o", tmp_path / "out")
    found = json.loads(run("evaluate", tmp_path / "out", "--perplexity", named, "--json"))
    assert found["tokens"] == 600 // 32 * 32


def test_the_evaluation_harness_runs_a_pruned_model(speaking, tmp_path):
    pytest.importorskip("lm_eval")
    rows = [{"q": "w01 w02 w03", "choices": ["w04", "w05"], "a": 0}]
    rows += [{"q": "w07 w08", "choices": ["w09", "w01"], "a": 1}]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(r) for r in rows))
    asked = {
        "task": "words",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "a",
        "metric_list": [{"metric": "acc"}],
    }
    (tmp_path / "words.yaml").write_text(json.dumps(asked))
    told = run("evaluate", speaking, "--lm-eval", tmp_path / "words.yaml")
    mine = tf.AutoModelForCausalLM.from_pretrained(speaking).eval()
    right = 0
    for row in rows:
        scores = []
        for choice in row["choices"]:
            tokens = [int(w[1:]) for w in f"{row['q']} {choice}".split()]
            with torch.no_grad():
                scores.append(float(mine(torch.tensor([tokens[:-1]])).logits[0, -1].log_softmax(-1)[tokens[-1]]))
        right += scores.index(max(scores)) == row["a"]
    assert f"words, acc: {right / 2:.4f}" in told
