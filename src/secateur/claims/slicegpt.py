"""Claims about slicegpt: rotations leave a language model as it is, and make its stream cheaper to cut.

A Llama of 6.9 M parameters and width 256, WikiText-2. Calibration: 64 windows of 256 tokens of validation text, drawn
by the seed. Perplexity: 64 windows of 256 tokens of test text, always the same.
"""

import torch

import secateur as sc
from secateur.budgets import StreamWidths
from secateur.runtime import compare_latency
from secateur.scores import Energy
from secateur.structures import Directions

from .claim import claim
from .texts import text_task, trained_llama
from .verdict import higher, lower, within


@claim(
    "slicegpt",
    against="dense",
    expect=within("apart", by=1e-4),
    differs="llama7m (6.9 M parameters)",
    finding="4.6e-7: what float32 rounds.",
)
def rotations_alone_change_nothing(seed: int, method: str) -> dict[str, float]:
    """Fused, rotated and not cut, its logits on 4 windows differ from the dense ones by less than 1e-4."""
    task, model = text_task(seed, windows=4), trained_llama().eval()
    ids = next(iter(task.batches("test", shuffle=False)))
    with torch.no_grad():
        dense = task.call(model, ids).logits.double()
        if method == "slicegpt":
            model = sc.prune(model, method, sparsity=0.0, task=task, seed=seed, device="cpu").subject
        found = task.call(model, ids).logits.double()
    return {"apart": float((found - dense).norm() / dense.norm())}


@claim(
    "slicegpt",
    against="coordinates",
    expect=lower("perplexity", by=0.2, relative=True),
    differs="llama7m (6.9 M parameters) for OPT-125M and larger; 64 windows of 256 tokens of WikiText-2 validation "
    "for 128 of 2048. The other side cuts the coordinates of least energy, place by place, with the same norms fused",
    finding="44.2 against 72.4. Of all parameters both sides lose 0.3 %, because this model's head is its embedding "
    "and becomes a tensor of its own; of the multiplications go 11.7 % (the next claim).",
)
def beats_cutting_coordinates(seed: int, method: str) -> dict[str, float]:
    """With a quarter of the width cut, its perplexity is at least 20 % lower than that without rotation."""
    chosen: str | sc.Recipe = method
    if method != "slicegpt":
        chosen = sc.Recipe(Directions(), Energy(), budget=StreamWidths(), propagation="stages")
    task = text_task(seed, windows=64)
    result = sc.prune(trained_llama(), chosen, sparsity=0.25, task=task, seed=seed, device="cpu")
    share = result.after["params"] / result.before["params"]
    return {"perplexity": result.metrics["perplexity"], "params": share}


@claim(
    "slicegpt",
    against="dense",
    expect=higher("speed", by=0.0),
    differs="CPU time of forward passes of llama7m (6.9 M parameters) on 4 windows of 256 tokens, medians of 11 "
    "interleaved pairs, for GPUs and models of 7 B and more",
    finding="8.9 % more, with 88.3 % of the multiplications. Measured twice, because the first time those of a head "
    "that is the embedding were not counted; the speed was 7.6 % then.",
)
def reads_more_tokens_in_the_same_time(seed: int, method: str) -> dict[str, float]:
    """With a quarter of the width cut, it reads more tokens per second than the dense model."""
    if method != "slicegpt":
        return {"speed": 1.0}
    task, dense = text_task(seed, windows=4), trained_llama().eval()
    ids = next(iter(task.batches("test", shuffle=False)))
    result = sc.prune(trained_llama(), method, sparsity=0.25, task=task, seed=seed, device="cpu")
    told = compare_latency(dense, result.subject, ids, pairs=11, repeats=1, call=task.call)
    return {"speed": 1 / told.ratio, "macs": result.after["macs"] / result.before["macs"]}
