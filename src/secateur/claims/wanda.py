"""Claims about wanda: what is multiplied with little can go, on a language model of 6.9 M parameters.

Calibration: 64 windows of 256 tokens of WikiText-2 validation, drawn by the seed. Perplexity: 128 windows of 256 tokens
of WikiText-2 test.
"""

from dataclasses import replace

import torch

import secateur as sc
from secateur.budgets import Uniform
from secateur.core import InputGram
from secateur.engine.methods import as_recipe
from secateur.scores import Magnitude

from .claim import claim
from .layer_errors import lost_outputs
from .texts import text_task, trained_llama
from .verdict import higher, lower


@claim(
    "wanda",
    against="magnitude",
    expect=lower("perplexity", by=0.05, relative=True),
    differs="llama7m (6.9 M parameters) for LLaMA-7B; 64 windows of 256 tokens of WikiText-2 "
    "validation for 128 of 2048 of C4",
    finding="45.5 against 46.2: lower for every seed, by 1.6 % and not by 5. Magnitude per matrix is a good "
    "choice on a model this small, which has few outlier features.",
)
def beats_magnitude(seed: int, method: str) -> sc.Result:
    """At 50 % its perplexity is at least 5 % lower than that of magnitude in each matrix."""
    return sc.prune(trained_llama(), method, sparsity=0.5, task=text_task(seed), batches=4, seed=seed, device="cpu")


@claim(
    "wanda",
    against="magnitude",
    expect=lower("perplexity"),
    differs="llama7m (6.9 M parameters) for LLaMA-7B; 64 windows of 256 tokens of PTB train for 128 of 2048 of C4; "
    "128 windows of PTB test",
    finding="50.8 against 49.2, for every seed: the ranking of WikiText-2 (45.5 against 46.2) is turned round. Why was "
    "not found out; a model this small has few features that stand out, and PTB writes its rare words as <unk>.",
)
def beats_magnitude_on_ptb(seed: int, method: str) -> sc.Result:
    """Calibrated and judged on a second text, its perplexity at 50 % is lower than that of magnitude."""
    task = text_task(seed, train="ptb_train", test="ptb_test")
    return sc.prune(trained_llama(), method, sparsity=0.5, task=task, batches=4, seed=seed, device="cpu")


@claim(
    "wanda",
    against="magnitude",
    expect=higher("layers_won", by=0.8),
    differs="llama7m (6.9 M parameters) for LLaMA-7B; 64 windows of 256 tokens of WikiText-2 "
    "validation for 128 of 2048 of C4",
    finding="70 % of the layers, not 90. Wanda loses the same share in every row, magnitude may take more from "
    "weak rows; that costs more in some layers than the norms of inputs bring. Which layers was not "
    "looked at.",
)
def keeps_what_layers_give(seed: int, method: str) -> dict[str, float]:
    """At 50 %, judged on dense inputs, the outputs of 90 % of the layers are nearer to the dense ones.

    `layers_won` is the share of matrices in which this side errs no more than the other: 0.9 against 0.1.
    """
    recipe = as_recipe("wanda", propagation="whole")
    other = replace(recipe, score=Magnitude(), budget=Uniform())
    errors = {
        name: lost_outputs(trained_llama(), chosen, text_task(seed, windows=4), 0.5, InputGram())
        for name, chosen in (("wanda", recipe), ("magnitude", other))
    }
    mine, others = errors[method], errors["magnitude" if method == "wanda" else "wanda"]
    won = torch.tensor([mine[name] <= others[name] for name in mine]).float().mean()
    return {"layers_won": float(won)}
