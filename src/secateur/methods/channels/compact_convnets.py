r"""Pruning compact networks: a larger member of a family, pruned to the cost of a smaller one (Ghosh et al., 2022).

    M_1 < M_2 < ... by their MACs, a cost C:  the next larger member than C is pruned to C in a few steps,

    s_k = s (1 - (1 - k/n)^3),   k = 1 .. n,

and fine-tuned at a reduced rate by the family's own recipe. This is that pruning; `secateur.compact_family` chooses the
member, and compares with the smaller one and with Scratch-B. No official code could be had; where the abstract is
silent, the protocol is the usual one.
"""

from typing import Literal

from secateur.budgets import Global
from secateur.core import Paper, Recipe, RecipeError, Recovery, Score, Structure, When, method
from secateur.recovery import Distill, FineTune, MovingAverage, RecalibrateBN
from secateur.schedules import CubicGradual
from secateur.scores import Coupled, Magnitude, Taylor
from secateur.structures import Channels, SparseWeights


@method(
    "compact-convnets",
    paper=Paper(
        "Pruning Compact ConvNets for Efficient Inference",
        "Ghosh, Prasad, Dai, Zhang, Wu, Cormode & Vajda",
        2022,
        "https://arxiv.org/abs/2301.04502",
    ),
    structure="channels, weights",
    when=When.AFTER,
    data="training data",
    models=["cnn"],
)
def compact_convnets(
    granularity: Literal["channels", "weights"] = "channels",
    score: Literal["magnitude", "taylor"] = "magnitude",
    steps: int = 5,
    length: float = 0.25,  # of the task's epochs
    lr: float = 0.1,  # of its learning rate
    average: float = 0.999,
    distill: float = 0.0,
    depthwise: bool = False,  # of weights: depthwise convolutions are small, and sensitive
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Prunes a compact network in a few steps to the cost of a smaller member of its family."""
    if not 1 <= steps <= 10:
        raise RecipeError(f"steps is {steps}", where="compact-convnets(steps=...)", mend="3 to 10; 1 is one cut")
    of_weights: Score = Magnitude(1 if granularity == "weights" else 2) if score == "magnitude" else Taylor()
    structure: Structure = SparseWeights(include, exclude, depthwise)
    if granularity == "channels":
        structure, of_weights = Channels(include, exclude), Coupled(of_weights)
    teacher: tuple[Recovery, ...] = (Distill(distill),) if distill else ()
    return Recipe(
        structure=structure,
        score=of_weights,
        budget=Global(),
        # in the first half, so that as much of the training again heals what is left
        schedule=CubicGradual(begin=0.0, end=0.5, every=0.5 / steps),
        recovery=(
            FineTune(lr_schedule="cosine", epochs_share=length, lr_share=lr),
            *teacher,
            MovingAverage(average),
            RecalibrateBN(),
        ),
    )
