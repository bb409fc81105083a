"""Claims about global-mp: its minimum threshold (MT) saves thin layers at extreme sparsity, and costs nothing before.

At 98 % some 5,400 of the 268 k weights of ResNet-20 stay, and MT, 0.05 % of all weights, is 134 in each layer.
"""

from dataclasses import replace

import secateur as sc
from secateur.core import Training
from secateur.engine.methods import as_recipe

from .claim import claim
from .subjects import cifar_task, trained_resnet20
from .verdict import higher, within

_TRAINING = Training(optimizer="sgd", lr=0.02, momentum=0.9, weight_decay=1e-4, lr_schedule="cosine")


def _recipe(method: str, epochs: float) -> sc.Recipe:
    """With the floor (the method's default), or without."""
    if method == "global-mp":
        return as_recipe("global-mp", epochs=epochs)
    return replace(as_recipe("global-mp", threshold=0.0, epochs=epochs), allow_collapse=True)


def _figures(result: sc.Result) -> dict[str, float]:
    """The accuracy, and the fewest weights that stayed in a layer."""
    assert result.keep is not None
    return {"accuracy": result.metrics["accuracy"], "least_kept": min(result.keep.counts.values())}


@claim(
    "global-mp",
    against="no-threshold",
    expect=higher("accuracy"),
    differs="ResNet-20 on 8,000 CIFAR-10 images for 2 epochs without augmentation; 2,000 test images for each seed",
    finding="The floor binds in one layer only, layer3.2.conv2: 134 weights with it, 3 without. Its block has a "
    "shortcut, so an empty layer probably skips a block and cuts nothing off; no network without shortcuts was tried. "
    "Both sides end near 43 %, from 92 % dense.",
)
def threshold_helps_at_extreme_sparsity(seed: int, method: str) -> dict[str, float]:
    """At 98 % sparsity the minimum threshold raises the accuracy after fine-tuning."""
    task = cifar_task(seed, train=8000, training=_TRAINING)
    return _figures(sc.prune(trained_resnet20(), _recipe(method, epochs=2), sparsity=0.98, task=task, seed=seed))


@claim(
    "global-mp",
    against="no-threshold",
    expect=within("accuracy", by=0.003),
    exact=True,
    differs="ResNet-20 on CIFAR-10, all 10,000 test images, without fine-tuning, so that nothing is random",
    finding="No layer comes near the floor at 80 %: both sides keep the very same weights, so this says nothing about "
    "a floor that binds.",
)
def threshold_costs_nothing_at_80(seed: int, method: str) -> dict[str, float]:
    """At 80 % sparsity the minimum threshold changes the accuracy by less than 0.3 points."""
    task = cifar_task(seed, train=128, test=10_000)
    return _figures(sc.prune(trained_resnet20(), _recipe(method, epochs=0), sparsity=0.8, task=task, seed=seed))
