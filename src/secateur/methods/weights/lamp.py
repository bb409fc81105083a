r"""LAMP: layer-adaptive magnitude pruning (Lee et al., ICLR 2021).

A weight's score is its square over the sum of squares of all weights of its layer that are at least as large:

    lamp(u) = W[u]^2 / sum_{v : |W[v]| >= |W[u]|} W[v]^2        (equation 4)

Ranked globally, it gives each layer its share: the score bounds the relative L2 distortion of the layer's output.
Inside a layer the order is that of magnitude. The largest weight of every layer scores 1, so none is emptied.
"""

from secateur.budgets import Lamp
from secateur.core import Paper, Recipe, When, method
from secateur.recovery import FineTune
from secateur.schedules import Iterative, OneShot
from secateur.scores import Magnitude
from secateur.structures import Weights


@method(
    "lamp",
    paper=Paper(
        "Layer-adaptive Sparsity for the Magnitude-based Pruning",
        "Lee, Park, Mo, Ahn & Shin",
        2021,
        "https://arxiv.org/abs/2010.07611",
    ),
    structure="weights, blocks",
    when=When.AFTER,
    data="none; training data to heal",
    models=["any"],
)
def lamp(
    rounds: int = 1,
    epochs: float = 0,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes small weights, and chooses each layer's share by how much its output would distort."""
    return Recipe(
        structure=Weights(include, exclude),
        score=Magnitude(),
        budget=Lamp(),
        schedule=OneShot() if rounds == 1 else Iterative(rounds),
        recovery=(FineTune(epochs=epochs),) if epochs else (),
    )
