r"""Gradual magnitude pruning (Zhu & Gupta, 2017).

While the network trains, each matrix is pruned by |w| to a sparsity that rises along a cube (equation 1):

    s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3        at t = t0, t0 + dt, ..., t0 + n dt

Pruned weights get no update, so they stay at zero and are pruned again. After the ramp the mask is fixed and training
goes on. The paper's advice: prune while the learning rate is still high enough to recover.
"""

from typing import Literal

from secateur.budgets import Global, Uniform
from secateur.core import Paper, Point, Recipe, When, method
from secateur.recovery import FineTune
from secateur.schedules import CubicGradual
from secateur.scores import Magnitude
from secateur.structures import Weights


@method(
    "gmp",
    paper=Paper(
        "To prune, or not to prune: exploring the efficacy of pruning for model compression",
        "Zhu & Gupta",
        2017,
        "https://arxiv.org/abs/1710.01878",
    ),
    structure="weights, N:M, blocks",
    when=When.DURING,
    data="training data",
    models=["any"],
)
def gmp(
    begin: Point = 0.0,
    end: Point = 0.7,
    # the paper prunes every 100 to 1000 steps of some 10^5; as a share, it fits a training of any length
    every: Point = 0.01,
    initial: float = 0.0,
    scope: Literal["layer", "global"] = "layer",
    epochs: float | None = None,
    embeddings: bool = False,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Prunes while it trains, fast at first and slowly near the end."""
    return Recipe(
        structure=Weights(include, exclude, embeddings),
        score=Magnitude(),
        budget=Uniform() if scope == "layer" else Global(),
        schedule=CubicGradual(begin, end, every, initial),
        recovery=(FineTune(epochs=epochs),),
    )
