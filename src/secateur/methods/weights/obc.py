r"""OBC, optimal brain compression: exact optimal brain surgery of each layer (Frantar & Alistarh, 2022).

    argmin_p w_p^2 / [H^-1]_pp;   w -= w_p / [H^-1]_pp [H^-1]_:,p;   H^-1 -= [H^-1]_:,p [H^-1]_p,: / [H^-1]_pp

with H = 2/N sum x x^T, damped, of the layer's inputs: in each row the weight goes that costs least, all others of the
row make it good, and so on, one by one. The rows' orders are then merged by what each step costs. Blocks B of weights
cost w_B ([H^-1]_BB)^-1 w_B; of N:M patterns, no more than M - N go in each.
"""

from typing import Literal

from secateur.budgets import Uniform
from secateur.core import Paper, Recipe, When, method
from secateur.schedules import OneShot
from secateur.solvers import OBC
from secateur.structures import Weights


@method(
    "obc",
    paper=Paper(
        "Optimal Brain Compression: A Framework for Accurate Post-Training Quantization and Pruning",
        "Frantar & Alistarh",
        2022,
        "https://arxiv.org/abs/2208.11580",
    ),
    structure="weights, N:M, blocks",
    when=When.AFTER,
    data="unlabelled samples, more than a layer has inputs",
    models=["any"],
)
def obc(
    per: Literal["group", "row"] = "group",
    damping: float = 0.01,
    # the paper compresses each layer on what the dense model gives it
    propagation: Literal["pruned", "stages", "whole"] = "whole",
    memory_mib: int = 64,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes weights one by one, and lets all others of the row make each good, exactly."""
    return Recipe(
        structure=Weights(include, exclude),
        solve=OBC(damping, memory_mib),
        budget=Uniform(per),
        schedule=OneShot(),
        propagation=propagation,
    )
