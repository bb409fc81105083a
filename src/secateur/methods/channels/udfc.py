r"""UDFC, Unified Data-Free Compression: channels go, and the next layer makes up for them (Bai et al., ICCV 2023).

With filters v and shifts b of a layer, batch norm folded in, the lowest ||v_j||_2 of each layer go. A channel j is then
taken for a combination of those that stay, in closed form and without data (`secateur.recovery.NextLayer`):

    E(s) = ||v_j - sum_i s_i v_i||^2 + lam1 (b_j - sum_i s_i b_i)^2 + lam2 ||s||^2,     U[:, i] += s_i U[:, j]

where U reads the channels. With `bits`, weights are quantised as well, and what that loses is made up for in the same
way. The terms are derived from the paper's assumption; no official code could be had.
"""

from typing import Literal

from secateur.budgets import Uniform
from secateur.core import Paper, Recipe, When, method
from secateur.recovery import NextLayer
from secateur.scores import FoldedNorm
from secateur.structures import Channels


@method(
    "udfc",
    paper=Paper(
        "Unified Data-Free Compression: Pruning and Quantization without Fine-Tuning",
        "Bai, Chen, Shen, Qian & Liu",
        2023,
        "https://arxiv.org/abs/2308.07209",
    ),
    structure="channels",
    when=When.AFTER,
    data="none",
    models=["cnn"],
)
def udfc(
    lam1: float = 0.01,  # the paper's two weights; which term each belongs to is not known for sure
    lam2: float | Literal["relative"] = 0.008,
    nonnegative: bool = False,
    bits: int | None = None,
    streams: bool = False,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes channels, quantises if asked, and repairs the next layer in closed form, without any data."""
    return Recipe(
        structure=Channels(include, exclude, streams=streams),
        score=FoldedNorm(),
        budget=Uniform(),
        recovery=(NextLayer(lam1, lam2, nonnegative, bits),),
    )
