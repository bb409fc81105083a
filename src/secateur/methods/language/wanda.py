r"""Wanda: weights that are small, or that little is multiplied with, go (Sun et al., 2024).

    S_ij = |W_ij| ||X_j||_2

compared within each output row, where exactly round(s n) weights with the smallest S go, or M - N of every M. Nothing
is trained and no weight changes. The model is pruned block by block: each block hears what the pruned blocks before it
give. The reference code rounds the count of a row down; here it is rounded half up, as everywhere.
"""

from typing import Literal

from secateur.budgets import OWL, Uniform
from secateur.core import Paper, Recipe, When, method
from secateur.schedules import OneShot
from secateur.scores import Wanda
from secateur.structures import Weights


@method(
    "wanda",
    paper=Paper(
        "A Simple and Effective Pruning Approach for Large Language Models",
        "Sun, Liu, Bair & Kolter",
        2024,
        "https://arxiv.org/abs/2306.11695",
    ),
    structure="weights, N:M",
    when=When.AFTER,
    data="128 unlabelled samples",
    models=["any"],
)
def wanda(
    adaptive: bool = False,
    budget: Literal["uniform", "owl"] = "uniform",
    propagation: Literal["pruned", "stages", "whole"] = "pruned",
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes weights by size times the norm of what they are multiplied with, block by block."""
    per: Literal["row", "group"] = "group" if adaptive else "row"
    return Recipe(
        structure=Weights(include, exclude),
        score=Wanda(adaptive),
        budget=OWL(per=per) if budget == "owl" else Uniform(per),
        schedule=OneShot(),
        propagation=propagation,
    )
