"""Claims about finercut: sublayers, by what the outputs miss, are a better unit than blocks; attentions go first.

A Llama of 8 blocks, so 16 sublayers. One order for each seed serves both claims.
"""

from dataclasses import dataclass
from functools import cache

from torch import Tensor

import secateur as sc
from secateur.budgets import Exactly
from secateur.calibration import collect
from secateur.core import Group, Score, Stats, Task
from secateur.scores import GreedyOrder
from secateur.structures import Layers

from .claim import claim
from .texts import text_task, trained_llama
from .verdict import higher, lower

_SHARE = 0.25


@dataclass(frozen=True)
class _Known(Score):
    """An order that was found before."""

    order: tuple[float, ...]
    knows_whole = True

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return Tensor(self.order)


def _task(seed: int) -> Task:
    return text_task(seed, calibration=10, windows=64)


@cache
def _order(seed: int) -> tuple[tuple[str, ...], tuple[float, ...], dict[int, float]]:
    """The sublayers, at which step each goes, and the parameters that are left when so many are gone."""
    model, task, score = trained_llama(), _task(seed), GreedyOrder(most=0.5)
    example = next(iter(task.batches("test", shuffle=False)))
    space = Layers(kinds=("sublayers",)).seeing(lambda seen: task.call(seen, example)).find(model)
    (group,) = space
    steps = score(group, Stats(collect(model, space.leaves(), score.needs, task, task.batches("train"))))
    left = {gone: space.totals["params"]({group.name: steps >= gone}) for gone in range(len(steps) // 2 + 1)}
    return group.names, tuple(steps.tolist()), left


@cache
def _shorter(seed: int) -> dict[str, float]:
    result = sc.prune(trained_llama(), "shortgpt", sparsity=_SHARE, task=_task(seed), seed=seed, device="cpu")
    return {"perplexity": result.metrics["perplexity"], "params": result.after["params"]}


@claim(
    "finercut",
    against="shortgpt",
    expect=lower("perplexity"),
    differs="a Llama of 6.9 M parameters and 8 blocks for models of 7 B and more; 10 windows of 256 tokens of "
    "WikiText-2's validation text, perplexity on 64 such windows of its test text; shortgpt takes 2 blocks, finercut "
    "the fewest sublayers of its order that leave no more parameters than that",
    finding="53.4 with 5.20 M parameters against 50.4 with 5.40 M, the same in every seed. FinerCut's first five "
    "are the very blocks that shortgpt takes, 3 and 5, and the attention of block 6: one sublayer more, "
    "because no beginning of its order leaves as many parameters. Its first four leave 5.73 M and 50.2. "
    "So the claim was not tested at equal parameters, which no beginning of this order has; without that "
    "attention both would be the same model.",
)
def sublayers_beat_blocks(seed: int, method: str) -> dict[str, float]:
    """With no more parameters than shortgpt leaves without a quarter of the blocks, perplexity is lower."""
    shorter = _shorter(seed)
    if method == "shortgpt":
        return shorter
    _, steps, left = _order(seed)
    gone = min(n for n, params in left.items() if params <= shorter["params"])
    recipe = sc.Recipe(Layers(kinds=("sublayers",)), _Known(steps), budget=Exactly(gone))
    result = sc.prune(trained_llama(), recipe, task=_task(seed), seed=seed, device="cpu")
    return {"perplexity": result.metrics["perplexity"], "params": result.after["params"], "sublayers": float(gone)}


@claim(
    "finercut",
    against="mlps",
    expect=higher("sublayers"),
    differs="a Llama of 6.9 M parameters and 8 blocks for models of 7 B and more; 10 windows of 256 tokens of "
    "WikiText-2's validation text; the first 4 of 16 sublayers",
)
def attentions_go_first(seed: int, method: str) -> dict[str, float]:
    """Of the first quarter of sublayers to go, more are attentions than MLPs."""
    names, steps, _ = _order(seed)
    first = [name for name, step in zip(names, steps, strict=True) if step < _SHARE * len(names)]
    attentions = sum(name.endswith("attn") for name in first)
    return {"sublayers": float(attentions if method == "finercut" else len(first) - attentions)}
