r"""Global magnitude pruning with a minimum threshold (Gupta et al., 2022).

All weights of the network compete by |w|, so layers lose different shares. At high sparsity a layer can lose all of
its weights; the minimum threshold MT keeps, in every layer, at least

    MT = N x / 100        weights, N = all prunable weights, x a percentage (the paper takes the floor; here it is
                          rounded half up, like every count)

(one absolute number for all layers; smaller layers stay whole), and the sparsities of the others are scaled up alike
until the total is right again. The released loop can oscillate; here raised layers stay raised.
"""

from secateur.budgets import Global, WithFloor
from secateur.core import Budget, Paper, Recipe, When, method
from secateur.recovery import FineTune
from secateur.schedules import CubicGradual, OneShot
from secateur.scores import Magnitude
from secateur.structures import Weights


@method(
    "global-mp",
    paper=Paper(
        "Is Complexity Required for Neural Network Pruning? A Case Study on Global Magnitude Pruning",
        "Gupta, Camci, Keneta, Vaidyanathan, Kanodia, Foo, Wu & Lin",
        2022,
        "https://arxiv.org/abs/2209.14624",
    ),
    structure="weights, blocks",
    when=When.AFTER,
    data="none; training data to heal",
    models=["any"],
)
def global_mp(
    threshold: float = 0.0005,
    gradual: bool = False,
    epochs: float = 0,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes the smallest weights of the whole network, but never a whole layer."""
    # threshold: a share of all prunable weights; the released code's default is 0.05 %; 0 switches the floor off
    budget: Budget = WithFloor(Global(), threshold) if threshold else Global()
    heals = (FineTune(epochs=epochs or None),) if epochs or gradual else ()
    return Recipe(
        structure=Weights(include, exclude),
        score=Magnitude(),
        budget=budget,
        schedule=CubicGradual() if gradual else OneShot(),
        recovery=heals,
    )
