r"""Magnitude pruning: the smallest weights of each matrix go.

The oldest criterion, and the baseline that every other must beat:

    S_ij = |W_ij|

In each matrix (or each output row) exactly round(s n) weights with the smallest S go. Trained weights that stayed
small were little needed; nothing else is looked at, so it needs no data.
"""

from typing import Literal

from secateur.budgets import Uniform
from secateur.core import Paper, Recipe, When, method
from secateur.recovery import FineTune
from secateur.schedules import OneShot
from secateur.scores import Magnitude
from secateur.structures import Weights


@method(
    "magnitude",
    paper=Paper(
        "Learning both Weights and Connections for Efficient Neural Networks",
        "Han, Pool, Tran & Dally",
        2015,
        "https://arxiv.org/abs/1506.02626",
    ),
    structure="weights, N:M, blocks",
    when=When.AFTER,
    data="none; training data to heal",
    models=["any"],
)
def magnitude(
    per: Literal["group", "row"] = "group",
    epochs: float = 0,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes the smallest weights of every matrix, the same share in each."""
    return Recipe(
        structure=Weights(include, exclude),
        score=Magnitude(),
        budget=Uniform(per),
        schedule=OneShot(),
        recovery=(FineTune(epochs=epochs),) if epochs else (),
    )
