r"""iCBS, the iterative combinatorial brain surgeon (Rosenberg et al., 2024).

A mask is improved block by block: some pruned and some kept weights of one layer, x_i = 1 for those that go, and

    min_x x^T Q x,  sum x as it is
    Q = 1/2 (w0 w0^T) H + diag(w0 (H dw)) - c diag(w0 g) + lambda diag(w0 (2 dw + w0))

with g and H of one minibatch at the weights as they are by then, dw = w - w0, and H = G^T G / B of the gradients of
single samples. Annealing solves it; what comes back has its original value w0. Nothing is trained, and every layer
keeps its count.
"""

from typing import Literal

from secateur.budgets import Uniform
from secateur.core import Paper, Recipe, When, method
from secateur.schedules import OneShot
from secateur.scores import Magnitude, Random, Taylor, Wanda
from secateur.solvers.refining import BlockDescent
from secateur.structures import Weights

_SCORES = {"magnitude": Magnitude, "wanda": Wanda, "gradient": Taylor, "random": Random}


@method(
    "icbs",
    paper=Paper(
        "Scalable Iterative Pruning of Large Language and Vision Models using Block Coordinate Descent",
        "Rosenberg et al.",
        2024,
        "https://arxiv.org/abs/2411.17796",
    ),
    structure="weights, N:M",
    when=When.AFTER,
    data="labelled samples, or text",
    models=["any"],
)
def icbs(
    init: Literal["magnitude", "wanda", "gradient", "random"] = "magnitude",
    per: Literal["group", "row"] = "group",
    steps: int = 120,
    block: int = 128,
    pruned: int | None = None,
    choose: Literal["score", "gradient", "random"] = "gradient",
    layers: Literal["uniform", "log-size"] = "uniform",
    curvature: Literal["gradient_per_sample", "gradient_mean", "exact", "exact_piecewise"] = "gradient_per_sample",
    trust: float = 1.0,
    ridge: float = 0.0,
    tabu: float = 0.0,
    fix_pruned: float = 0.0,
    fix_kept: float = 0.0,
    restarts: int = 1,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Lets pruned and kept weights change places, block by block, as the loss would have it."""
    descent = BlockDescent(
        steps,
        block,
        pruned,
        choose,
        layers,
        curvature,
        trust=trust,
        ridge=ridge,
        tabu=tabu,
        fix_pruned=fix_pruned,
        fix_kept=fix_kept,
        restarts=restarts,
    )
    return Recipe(
        structure=Weights(include, exclude),
        score=_SCORES[init](),
        budget=Uniform(per),
        schedule=OneShot(),
        refine=descent,
    )
