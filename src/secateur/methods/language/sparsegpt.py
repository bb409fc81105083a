r"""SparseGPT: weights go column by column, and the columns still to come take over (Frantar & Alistarh, 2023).

    H = 2/N sum x x^T, damped;  U = upper Cholesky factor of H^-1
    score_ij = W_ij^2 / U_jj^2;  W[:, j:] -= ((W_j - masked W_j) / U_jj) U[j, j:]

Scores are compared in blocks of 128 columns, over all rows, or within every M columns for N:M. The model is pruned
block by block: each block hears what the pruned blocks before it give; "stages" also splits each block where its layers
follow each other. One Hessian serves all layers that share their input.
"""

from typing import Literal

from secateur.budgets import OWL, Uniform
from secateur.core import Paper, Recipe, When, method
from secateur.schedules import OneShot
from secateur.solvers import SparseGPT
from secateur.structures import Weights


@method(
    "sparsegpt",
    paper=Paper(
        "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
        "Frantar & Alistarh",
        2023,
        "https://arxiv.org/abs/2301.00774",
    ),
    structure="weights, N:M",
    when=When.AFTER,
    data="128 unlabelled samples",
    models=["any"],
)
def sparsegpt(
    block: int = 128,
    damping: float = 0.01,
    budget: Literal["uniform", "owl"] = "uniform",
    propagation: Literal["pruned", "stages", "whole"] = "pruned",
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes weights and lets those of the columns to come make good what is lost, block by block."""
    return Recipe(
        structure=Weights(include, exclude),
        solve=SparseGPT(block, damping),
        budget=OWL(per="group") if budget == "owl" else Uniform(),
        schedule=OneShot(),
        propagation=propagation,
    )
