"""Claims about imp: the ticket trains to the dense accuracy, and its initialisation and its positions both matter.

Ten rounds that each remove a fifth of the survivors leave 0.8^10 = 10.7 %.
"""

import secateur as sc
from secateur.core import Training
from secateur.tasks.models import lenet_300_100

from .claim import claim
from .subjects import mnist_task
from .verdict import higher

_SPARSITY = 1 - 0.8**10
_TRAINING = Training(epochs=3, optimizer="adam", lr=1.2e-3, lr_schedule="constant")


def _trained(seed: int, method: str) -> sc.Result:
    """The ticket ("imp"), one of its controls, or the dense network after one leg of training."""
    task, model = mnist_task(seed, train=10_000, training=_TRAINING), lenet_300_100()
    if method == "dense":
        return sc.prune(model, "magnitude", sparsity=0.0, heal=_TRAINING.epochs, task=task, seed=seed)
    control = "ticket" if method == "imp" else method
    return sc.prune(model, "imp", control=control, sparsity=_SPARSITY, task=task, seed=seed)


@claim(
    "imp",
    against="reinit",
    expect=higher("accuracy", by=0.003),
    differs="LeNet-300-100 on 10,000 MNIST images, 3 epochs in each of 11 legs for 50,000 steps each",
)
def initialisation_matters(seed: int, method: str) -> sc.Result:
    """At 10.7 % density the ticket ends at least 0.3 points above the same mask on another initialisation."""
    return _trained(seed, method)


@claim(
    "imp",
    against="random-mask",
    expect=higher("accuracy", by=0.003),
    differs="LeNet-300-100 on 10,000 MNIST images, 3 epochs in each of 11 legs for 50,000 steps each",
)
def positions_matter(seed: int, method: str) -> sc.Result:
    """At 10.7 % density the ticket ends at least 0.3 points above as many weights of each layer at random places."""
    return _trained(seed, method)


@claim(
    "imp",
    against="dense",
    expect=higher("accuracy", by=-0.003),
    differs="LeNet-300-100 on 10,000 MNIST images, 3 epochs in each of 11 legs for 50,000 steps each",
)
def matches_dense(seed: int, method: str) -> sc.Result:
    """At 10.7 % density the ticket is at most 0.3 points below the dense network, trained as long as one leg."""
    return _trained(seed, method)
