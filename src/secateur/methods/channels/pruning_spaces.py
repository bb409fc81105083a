r"""Network pruning spaces: of all widths that cost the same, those near the best MACs for each parameter win.

A pruning space holds all vectors of keep ratios, one for each family of channels, whose MACs lie in a band of 1 %
around the target. Populations are compared, not their best members (He et al., 2023). In a band the error depends on

    q = MACs / parameters

and is lowest near a q* that a few samples find. The space is refined to |q / q* - 1| <= width, a few more are tried
there, and the best of them is taken (`secateur.budgets.QConstrained`). Each sample inherits the filters of largest L1
norm and is judged after its batch norms were measured anew. `sc.pruning_space` studies such a space.
"""

from secateur.budgets import QConstrained
from secateur.core import Paper, Recipe, Recovery, When, method
from secateur.recovery import FineTune, RecalibrateBN
from secateur.scores import Coupled, Magnitude
from secateur.structures import Channels


@method(
    "pruning-spaces",
    paper=Paper(
        "Network Pruning Spaces",
        "He, Yang, Song, Pu, Hu, Jiang, Zhang & Ding",
        2023,
        "https://arxiv.org/abs/2304.09453",
    ),
    structure="channels",
    when=When.AFTER,
    data="training data",
    models=["cnn"],
)
def pruning_spaces(
    ratio: float | None = None,
    width: float = 0.1,
    fit: int = 20,
    samples: int = 10,
    least: float = 0.1,
    epochs: float = 0,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Searches widths of one cost where the MACs for each parameter are best; the largest filters stay."""
    heals: tuple[Recovery, ...] = (FineTune(epochs=epochs),) if epochs else ()
    return Recipe(
        structure=Channels(include, exclude),
        score=Coupled(Magnitude(), over="sum", normalize="none", roles=("producer",)),
        budget=QConstrained(ratio, width, fit, samples, least),
        recovery=(*heals, RecalibrateBN()),
    )
