"""A claim about owl: blocks with more outliers should keep more, on a language model of 6.9 M parameters.

Calibration: 64 windows of 256 tokens of WikiText-2 validation, drawn by the seed. Perplexity: 128 windows of 256 tokens
of WikiText-2 test.
"""

import secateur as sc

from .claim import claim
from .texts import text_task, trained_llama
from .verdict import lower


@claim(
    "owl",
    against="wanda",
    expect=lower("perplexity"),
    differs="llama7m (6.9 M parameters, 8 blocks) for LLaMA-7B; 64 windows of 256 tokens of WikiText-2 validation for "
    "128 of 2048 of C4",
    finding="58.4 against 68.9: outliers are few, and yet their shares tell blocks apart.",
)
def beats_equal_shares(seed: int, method: str) -> sc.Result:
    """At 70 % Wanda with OWL's shares has a lower perplexity than Wanda with the same share everywhere."""
    return sc.prune(trained_llama(), method, sparsity=0.7, task=text_task(seed), batches=4, seed=seed, device="cpu")


@claim(
    "owl",
    against="wanda",
    expect=lower("perplexity"),
    differs="llama7m (6.9 M parameters, 8 blocks) for LLaMA-7B; 64 windows of 256 tokens of WikiText-2 validation for "
    "128 of 2048 of C4",
    finding="97.2 against 127.1; N is 1, 2 or 3, and 2 on average.",
)
def mixes_patterns(seed: int, method: str) -> sc.Result:
    """Where two of eight weights stay on average, N of 8 by OWL's shares has a lower perplexity than 2:8 everywhere."""
    task = text_task(seed)
    return sc.prune(trained_llama(), method, structure="2:8", task=task, batches=4, seed=seed, device="cpu")
