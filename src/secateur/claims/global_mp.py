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


def _pruned(seed: int, method: str, sparsity: float, images: int, epochs: float) -> dict[str, float]:
    """Accuracy with the floor (the method's default) or without, and the fewest weights that stayed in a layer."""
    recipe = as_recipe("global-mp", epochs=epochs) if method == "global-mp" else _without_floor(epochs)
    task = cifar_task(seed, train=images, training=_TRAINING)
    result = sc.prune(trained_resnet20(), recipe, sparsity=sparsity, task=task, seed=seed)
    assert result.keep is not None
    return {"accuracy": result.metrics["accuracy"], "least_kept": min(result.keep.counts.values())}


def _without_floor(epochs: float) -> sc.Recipe:
    return replace(as_recipe("global-mp", threshold=0.0, epochs=epochs), allow_collapse=True)


@claim(
    "global-mp",
    against="no-threshold",
    expect=higher("accuracy"),
    differs="ResNet-20 on 8,000 CIFAR-10 images for 2 epochs without augmentation; 2,000 test images for each seed",
)
def threshold_helps_at_extreme_sparsity(seed: int, method: str) -> dict[str, float]:
    """At 98 % sparsity the minimum threshold raises the accuracy after fine-tuning."""
    return _pruned(seed, method, sparsity=0.98, images=8000, epochs=2)


@claim(
    "global-mp",
    against="no-threshold",
    expect=within("accuracy", by=0.003),
    differs="ResNet-20 on 4,000 CIFAR-10 images for 1 epoch without augmentation; 2,000 test images for each seed",
)
def threshold_costs_nothing_at_80(seed: int, method: str) -> dict[str, float]:
    """At 80 % sparsity the minimum threshold changes the accuracy by less than 0.3 points."""
    return _pruned(seed, method, sparsity=0.8, images=4000, epochs=1)
