r"""OWL: blocks whose weights have more outliers keep more of them (Yin et al., 2024).

A block's outliers are the weights of all its matrices for which |W_ij| ||X_j|| is more than M times the block's mean.
Their share o_l sets the block's density,

    d_l = r_l - mean r + 1 - s,     r_l = 2 lambda (o_l - min o) / (max o - min o)

with means over weights. It is a budget: any score or solver of weights spends it (`budget="owl"` of wanda and
sparsegpt, `budgets.OWL` in a recipe). Outliers are counted on the dense model in a pass of their own.
"""

from typing import Literal

from secateur.budgets import OWL
from secateur.core import Paper, Recipe, When, method
from secateur.schedules import OneShot
from secateur.scores import Magnitude, Wanda
from secateur.solvers import SparseGPT
from secateur.structures import Weights


@method(
    "owl",
    paper=Paper(
        "Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce for Pruning LLMs to High Sparsity",
        "Yin et al.",
        2024,
        "https://arxiv.org/abs/2310.05175",
    ),
    structure="weights, N:M",
    when=When.AFTER,
    data="128 unlabelled samples",
    models=["any"],
)
def owl(
    by: Literal["wanda", "sparsegpt", "magnitude"] = "wanda",
    m: float = 5.0,
    width: float = 0.08,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Shares the sparsity out by outliers, and removes weights by Wanda, SparseGPT or magnitude."""
    return Recipe(
        structure=Weights(include, exclude),
        score={"wanda": Wanda(), "magnitude": Magnitude()}.get(by),
        solve=SparseGPT() if by == "sparsegpt" else None,
        budget=OWL(m, width, per="row" if by == "wanda" else "group"),
        schedule=OneShot(),
        propagation="pruned",
    )
