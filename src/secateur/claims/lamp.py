"""Claim: LAMP's shares beat equal shares at high sparsity, before any training."""

from dataclasses import replace

import secateur as sc
from secateur.engine.methods import as_recipe
from secateur.recovery import RecalibrateBN

from .claim import claim
from .subjects import cifar_task, trained_resnet20
from .verdict import higher


@claim(
    "lamp",
    against="magnitude",
    expect=higher("accuracy", by=0.01),
    differs="ResNet-20 on CIFAR-10 without fine-tuning; for each seed 1,024 images to recalibrate batch norm on and "
    "2,000 to test on",
    finding="Both are near chance, 20 % against 11 %: the order is clear, but neither network is of use before "
    "training.",
)
def beats_uniform(seed: int, method: str) -> sc.Result:
    """At 95 % sparsity, with batch norm recalibrated, LAMP keeps more accuracy than the same share in every layer."""
    recipe = replace(as_recipe(method), recovery=(RecalibrateBN(1.0),))
    return sc.prune(trained_resnet20(), recipe, sparsity=0.95, task=cifar_task(seed, train=1024), seed=seed)
