r"""Knapsack pruning with inner distillation: the most value for the MACs that are left (Aflalo et al., 2020).

A channel o is worth what the loss changes, to first order, when the weights that make it become zero:

    v_o = sum_{w of o} |w g|,     g = gradient of the loss, averaged over all batches before the product (section 3.1)

Values and costs of all layers that write the same channel are added. Kept are the channels that solve

    max sum_{kept} v_o   so that   sum_{kept} c_o <= C                                                (section 3.2)

where c_o are the MACs (parameters, bytes, ...) that go with o. Then the network is trained with the dense one beside
it, whose blocks it imitates (`secateur.recovery.InnerDistill`).
"""

from typing import Literal

from secateur.budgets import Knapsack
from secateur.core import Paper, Recipe, Recovery, When, method
from secateur.recovery import FineTune, InnerDistill
from secateur.scores import Coupled, Taylor
from secateur.structures import Channels


@method(
    "knapsack-ikd",
    paper=Paper(
        "Knapsack Pruning with Inner Distillation",
        "Aflalo, Noy, Lin, Friedman & Zelnik",
        2020,
        "https://arxiv.org/abs/2002.08258",
    ),
    structure="channels",
    when=When.AFTER,
    data="training data",
    models=["any"],
)
def knapsack_ikd(
    solver: Literal["greedy", "exact"] = "greedy",
    streams: bool = False,  # the official `prune_skip`
    inner: float = 20.0,  # of the official README; its code's default is 0.2
    blocks: tuple[str, ...] = (),
    epochs: float | None = None,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Keeps the channels worth most for their multiplications, and heals with a teacher for every block."""
    teacher: tuple[Recovery, ...] = (InnerDistill(inner, blocks),) if inner else ()
    return Recipe(
        structure=Channels(include, exclude, streams=streams),
        score=Coupled(Taylor(), over="sum", normalize="none", roles=("producer",)),
        budget=Knapsack(solver),
        recovery=(FineTune(epochs=epochs), *teacher),
    )
