"""Claims about shortgpt: the blocks that hardly turn the stream are the ones to take out."""

import secateur as sc
from secateur.budgets import Global
from secateur.scores import Random
from secateur.structures import Layers

from .claim import claim
from .texts import text_task, trained_llama
from .verdict import lower

_SHARE = 0.25


@claim(
    "shortgpt",
    against="random-blocks",
    expect=lower("perplexity"),
    differs="a Llama of 6.9 M parameters and 8 blocks for models of 7 B and 13 B; Block Influence from 10 windows of "
    "256 tokens of WikiText-2's validation text, perplexity on 64 such windows of its test text; no retraining",
    finding="Lower in all five draws: 50.4 against 53.2, 78.6, 8129, 53.2 and 78.6. The one pair without which "
    "the model breaks down makes the interval of the difference wider than its mean. All five calibration "
    "draws gave blocks 3 and 5 of 8, and random drew only three different pairs.",
)
def lowest_influence_beats_random(seed: int, method: str) -> sc.Result:
    """Without the quarter of its blocks that has the lowest Block Influence, perplexity is lower than at random."""
    recipe = method if method == "shortgpt" else sc.Recipe(Layers(), Random(), budget=Global())
    task = text_task(seed, calibration=10, windows=64)
    return sc.prune(trained_llama(), recipe, sparsity=_SHARE, task=task, seed=seed, device="cpu")
