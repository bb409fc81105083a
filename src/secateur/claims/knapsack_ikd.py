"""Claims about knapsack-ikd: the teacher of blocks helps, greedy is enough, and a knapsack beats equal shares.

ResNet-20 on CIFAR-10, 40 % of the MACs removed; the channels of residual streams stay.
"""

from dataclasses import replace

import torch

import secateur as sc
from secateur.budgets import Knapsack, Uniform
from secateur.calibration import collect
from secateur.core import Stats, Target, Training
from secateur.engine.methods import as_recipe

from .claim import claim
from .subjects import cifar_task, trained_resnet20
from .verdict import higher

_MACS = 0.6
# Adam, because the two losses differ in size; plain steps of one rate would not suit both
_TRAINING = Training(epochs=2, optimizer="adam", lr=1e-3)


def _figures(result: sc.Result) -> dict[str, float]:
    return {"accuracy": result.metrics["accuracy"], "macs": result.after["macs"] / result.before["macs"]}


@claim(
    "knapsack-ikd",
    against="fine-tune",
    expect=higher("accuracy", by=0.003),
    differs="ResNet-20 on CIFAR-10, 2 epochs on 2,000 training images for 3 on 10,000; for each seed other training "
    "images and 2,000 test images",
    finding="82 % against 77 %, where the dense network has 92 %: on so few images, training alone forgets.",
)
def blocks_teach(seed: int, method: str) -> dict[str, float]:
    """After as many steps of training, the teacher of blocks ends 0.3 points above training without it."""
    task = cifar_task(seed, train=2000, training=_TRAINING)
    inner = 20.0 if method == "knapsack-ikd" else 0.0
    return _figures(
        sc.prune(trained_resnet20(), "knapsack-ikd", inner=inner, macs=_MACS, task=task, seed=seed, device="cpu")
    )


@claim(
    "knapsack-ikd",
    against="exact",
    expect=higher("value", by=-0.02, relative=True),
    differs="values of ResNet-20's channels from 512 training images for each seed, 60 % of their MACs kept",
    finding="0.9996 of the exact one's.",
)
def greedy_is_enough(seed: int, method: str) -> dict[str, float]:
    """What greedy keeps is worth at least 0.98 of what the exact knapsack keeps."""
    model, task = trained_resnet20(), cifar_task(seed, train=512)
    recipe = as_recipe("knapsack-ikd")
    assert recipe.score is not None
    x, _ = next(iter(task.batches("test")))
    space = recipe.structure.seeing(lambda seen: seen(x[:2])).find(model)
    stats = Stats(collect(model, space.leaves(), recipe.score.needs, task, task.batches("train")))
    stats = replace(stats, scores={g.name: recipe.score(g, stats) for g in space})
    budget = Knapsack("exact" if method == "exact" else "greedy")
    _, counts = budget.allocate(space, stats, Target(1 - _MACS, "macs"))
    best = [stats.scores[name].sort(descending=True).values[:count].sum() for name, count in counts.items()]
    return {"value": float(torch.stack(best).sum()), "units": sum(counts.values())}


@claim(
    "knapsack-ikd",
    against="uniform",
    expect=higher("accuracy"),
    differs="ResNet-20 on CIFAR-10 without training afterwards; for each seed gradients of other 2,000 training images "
    "and 2,000 test images",
    finding="19 % against 23 %: neither is of use before training. Channels of the first stage cost four times as much "
    "as those of the last, so the knapsack leaves a single one in the first block. The official code leaves the first "
    "stage out by default, which was not measured; at 80 % of the MACs, on another seed, the knapsack was ahead, 66 % "
    "to 62 %.",
)
def knapsack_beats_equal_shares(seed: int, method: str) -> dict[str, float]:
    """Untrained after the cut, a knapsack keeps at least the accuracy of equal shares for the same MACs."""
    recipe = as_recipe("knapsack-ikd")
    if method == "uniform":
        recipe = replace(recipe, budget=Uniform())
    task = cifar_task(seed, train=2000)
    return _figures(
        sc.prune(trained_resnet20(), recipe, macs=_MACS, recovery="none", task=task, seed=seed, device="cpu")
    )
