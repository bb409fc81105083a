r"""Rethinking the value of network pruning: what matters is the architecture, not the weights (Liu et al., ICLR 2019).

The filters of lowest L1 norm go, the same share in each layer (section 4.1; Li et al., "Pruning Filters for Efficient
ConvNets", 2017). What is left is trained from new random weights by the dense recipe of E epochs:

    Scratch-E:  E epochs,     Scratch-B:  int(E * MACs_dense / MACs_pruned) epochs,     milestones at the same fractions

Both are recoveries of their own (`secateur.recovery.ScratchE`, `ScratchB`), for any method: `recovery="scratch-b"`.
"""

from typing import Literal

from secateur.budgets import Uniform
from secateur.core import Paper, Recipe, When, method
from secateur.recovery import ScratchB, ScratchE
from secateur.scores import Coupled, Magnitude
from secateur.structures import Channels


@method(
    "rethinking",
    paper=Paper(
        "Rethinking the Value of Network Pruning",
        "Liu, Sun, Zhou, Huang & Darrell",
        2019,
        "https://arxiv.org/abs/1810.05270",
    ),
    structure="channels",
    when=When.AFTER,
    data="training data",
    models=["any"],
)
def rethinking(
    budget: Literal["epochs", "macs"] = "macs",
    most: float | None = None,  # the paper's ImageNet models stop at twice the epochs
    epochs: float | None = None,
    streams: bool = False,  # only the layer between the convolutions of a block, as in the official ResNets
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Takes the same share of every layer, and trains what is left from scratch."""
    return Recipe(
        structure=Channels(include, exclude, streams=streams),
        score=Coupled(Magnitude(1), over="sum", normalize="none", roles=("producer",)),
        budget=Uniform(),
        recovery=(ScratchB(epochs=epochs, most=most) if budget == "macs" else ScratchE(epochs=epochs),),
    )
