r"""FLAP: heads and neurons whose outputs fluctuate least are replaced by their mean (An et al., AAAI 2024).

At the layers W that read units (o and down projections), for each input column j of the dense model:

    S_j = var(x_j) sum_i W_ij^2                      (what the outputs vary by when x_j is replaced by its mean)
    z_j = (S_j - mean S) / std S                     (within one layer, so that layers and modules compete)

A head's score is the mean z of its columns. Heads and neurons of all layers are sorted together, and what is under the
cut goes: of the units, or at their cost in parameters. The mean of what goes stays, as a bias:

    b += W[:,R] mean(x_R)                            (made where the layer had none)

Where heads share keys and values, the unit is the group of them.
"""

from typing import Literal

from secateur.budgets import Global, Isomorphic, Paid, Uniform
from secateur.core import Budget, Paper, Recipe, When, method
from secateur.recovery import BiasCompensation
from secateur.scores import Fluctuation
from secateur.structures import Channels

Allocation = Literal["AL-AM", "AL-MM", "UL-UM"]


def _budget(allocation: Allocation, share_of: str) -> Budget:
    """AL: layers compete, AM: and so do attention and MLP; UL-UM: the same share in each layer and module."""
    if allocation == "UL-UM":
        return Uniform()
    compete: Budget = Paid() if share_of == "params" else Global()
    return compete if allocation == "AL-AM" else Isomorphic(compete)


@method(
    "flap",
    paper=Paper(
        "Fluctuation-based Adaptive Structured Pruning for Large Language Models",
        "An, Zhao, Yu, Tang & Wang",
        2024,
        "https://arxiv.org/abs/2312.11983",
    ),
    structure="heads, channels",
    when=When.AFTER,
    data="about a thousand unlabelled sequences",
    models=["causal-lm", "encoder", "any"],
)
def flap(
    metric: Literal["wifv", "ifv", "wifn"] = "wifv",
    allocation: Allocation = "AL-AM",
    share_of: Literal["units", "params"] = "units",  # the paper's sparsity is one of parameters
    bias: bool = True,
    compat: Literal["none", "release"] = "none",
    floor: int = 1,
    multiple: int = 1,
    kinds: tuple[str, ...] = ("attention", "hidden", "channels"),
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes the heads and neurons that fluctuate least, across all layers, and keeps their mean in a bias."""
    return Recipe(
        structure=Channels(include, exclude, kinds, floor, multiple, streams=False),
        score=Fluctuation(metric, columns="none" if allocation == "UL-UM" else "standard", compat=compat),
        budget=_budget(allocation, share_of),
        recovery=(BiasCompensation(),) if bias else (),
    )
