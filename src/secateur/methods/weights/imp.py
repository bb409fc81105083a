r"""Iterative magnitude pruning, the lottery-ticket hypothesis (Frankle & Carbin, ICLR 2019).

    1. keep theta_0; mask m = 1
    2. train m * theta_0 to theta_T
    3. among the survivors of all matrices, the share p with the smallest |theta_T| leaves m
    4. back to 2, always from the same theta_0, with a new optimizer, the same data order and learning-rate schedule

After L rounds the density is (1 - p)^L. The ticket m * theta_0 trains to the dense accuracy where the controls do
not: the same mask on another initialisation (`reinit`), or as many weights at random places (`random-mask`).
"""

from typing import Literal

from secateur.budgets import Global, LayerRates
from secateur.core import Paper, Point, Recipe, When, method
from secateur.recovery import FineTune
from secateur.schedules import Rewinding
from secateur.scores import Magnitude
from secateur.structures import Weights


@method(
    "imp",
    paper=Paper(
        "The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks",
        "Frankle & Carbin",
        2019,
        "https://arxiv.org/abs/1803.03635",
    ),
    structure="weights, blocks",
    when=When.DURING,
    data="training data",
    models=["any"],
    start="init",
)
def imp(
    share: float = 0.2,
    rewind_to: Point = 0,
    control: Literal["ticket", "reinit", "random-mask"] = "ticket",
    scope: Literal["global", "layer"] = "global",
    epochs: float | None = None,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Finds a sparse subnetwork that trains from its own initialisation: train, prune, rewind, repeat."""
    return Recipe(
        structure=Weights(include, exclude),
        score=Magnitude(),
        # the paper's LeNet: every layer at the same rate, the output layer at half of it
        budget=Global() if scope == "global" else LayerRates(share),
        schedule=Rewinding(share, rewind_to, control),
        recovery=(FineTune(epochs=epochs),),
    )
