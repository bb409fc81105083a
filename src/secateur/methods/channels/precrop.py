r"""PreCrop: narrow layers before training, as wide as a sparse network would be dense (Cai et al., 2022).

What a network pruned at initialisation reaches depends on the density p_l of each layer, not on which weights stay. So
a dense network of fewer channels with the same densities does as well, and is faster. SynExp, the expectation of the
SynFlow score over weights and masks, gives them without data and without the drawn weights (section 3):

    max sum_l log p_l   so that   sum_l alpha_l p_l <= rho sum_l alpha_l,   p_l <= 1

alpha_l are a layer's parameters (or its MACs, where these are the target). Widths of channels that meet the p_l come
from least squares in logarithms (`secateur.budgets.Widths`).
"""

from collections.abc import Mapping
from typing import Literal

from secateur.budgets import Widths
from secateur.core import Paper, Recipe, When, method
from secateur.recovery import FineTune
from secateur.scores import Random
from secateur.structures import Channels


@method(
    "precrop",
    paper=Paper(
        "Structured Pruning is All You Need for Pruning CNNs at Initialization",
        "Cai, Hua, Chen, Suh, De Sa & Zhang",
        2022,
        "https://arxiv.org/abs/2203.02549",
    ),
    structure="channels",
    when=When.BEFORE,
    data="none to prune; training data to train",
    models=["cnn"],
    start="init",
)
def precrop(
    source: Literal["synexp", "erk", "uniform"] = "synexp",
    densities: Mapping[str, float] | None = None,
    limits: Literal["one", "both"] = "one",
    streams: bool = False,
    multiple: int = 1,
    epochs: float | None = None,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Narrows every layer before training to the density that a sparse network would have there."""
    return Recipe(
        structure=Channels(include, exclude, multiple=multiple, streams=streams),
        score=Random(),
        budget=Widths(source, densities, limits),
        recovery=(FineTune(epochs=epochs),),
    )
