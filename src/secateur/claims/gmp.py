"""Claims about gmp: the cubic ramp beats one cut, and a large sparse network beats a small dense one."""

from copy import deepcopy

from torch import nn

import secateur as sc
from secateur.core import Training
from secateur.tasks.digits import digits_flat
from secateur.tasks.language import language_task
from secateur.tasks.models import WordLSTM, digits_mlp

from .claim import claim
from .subjects import windows, words
from .verdict import higher, lower

_VOCABULARY, _HIDDEN, _SPARSITY = 2000, 256, 0.9


def _trained(model: nn.Module, task: sc.Task, epochs: float, seed: int) -> sc.Result:
    """Plain training: nothing is pruned."""
    return sc.prune(model, "magnitude", sparsity=0.0, heal=epochs, task=task, seed=seed)


@claim(
    "gmp",
    against="one-shot",
    expect=higher("accuracy", by=0.02),
    differs="MLP 64-300-100-10 on scikit-learn's digits, from a trained network, 10 epochs of fine-tuning on both "
    "sides, which both rank all layers together (scope='global')",
)
def cubic_beats_one_shot(seed: int, method: str) -> sc.Result:
    """At 95 % sparsity a cubic ramp ends 2 points above one cut and as many steps of fine-tuning."""
    task = digits_flat().fork(seed)
    dense = deepcopy(_trained(digits_mlp(), task, 15, seed).subject)
    if method == "gmp":
        return sc.prune(dense, "gmp", scope="global", sparsity=0.95, heal=10, task=task, seed=seed)
    return sc.prune(dense, "global-mp", threshold=0.0, sparsity=0.95, heal=10, task=task, seed=seed)


def _parameters(hidden: int) -> tuple[int, int]:
    """`(in matrices, in biases)` of a `WordLSTM`."""
    return 2 * _VOCABULARY * hidden + 8 * hidden**2, 8 * hidden + _VOCABULARY


def _small_hidden() -> int:
    """The smallest dense LSTM with no fewer parameters than the sparse one has non-zero ones."""
    matrices, biases = _parameters(_HIDDEN)
    nonzero = (1 - _SPARSITY) * matrices + biases
    return next(h for h in range(1, _HIDDEN) if sum(_parameters(h)) >= nonzero)


@claim(
    "gmp",
    against="small-dense",
    expect=lower("perplexity", by=0.05, relative=True),
    differs="one layer of 256 for two of 1500 units; PTB with the 2,000 most frequent words, 2 epochs on its first "
    "500,000 tokens in windows of 35 that each start from a zero state, Adam 3e-3 with cosine decay, no dropout; "
    "perplexity over those 2,000 words",
)
def large_sparse_beats_small_dense(seed: int, method: str) -> dict[str, float]:
    """A 90 % sparse LSTM has a perplexity at least 5 % below a dense one of as many non-zero parameters."""
    train, test = words(_VOCABULARY)
    training = Training(epochs=2, optimizer="adam", lr=3e-3, lr_schedule="cosine", clip=1.0)
    task = language_task(windows(train, 35, 500_000), windows(test, 35), "PTB, 2,000 words", training, batch_size=32)
    if method == "gmp":
        model = WordLSTM(_VOCABULARY, _HIDDEN)
        result = sc.prune(model, "gmp", sparsity=_SPARSITY, embeddings=True, task=task, seed=seed)
    else:
        result = _trained(WordLSTM(_VOCABULARY, _small_hidden()), task, 2, seed)
    return {"perplexity": result.metrics["perplexity"], "nonzero": result.after["nonzero"]}
