r"""ShortGPT: blocks that hardly turn the residual stream go, in one shot and without retraining (Men et al., 2024).

    BI_i = 1 - E_t [ cos(x_{i,t}, x_{i+1,t}) ]                                    (equation 1)

x_i is the stream before block i, and t runs over all tokens; the blocks with the lowest Block Influence go. With
`which="contiguous"` the n blocks of one run go instead, as in "The Unreasonable Ineffectiveness of the Deeper Layers":

    start = argmin_i  arccos(cos(x_i, x_{i+n})) / pi,     on the last token only
"""

from typing import Literal

from secateur.budgets import Contiguous, Global
from secateur.core import Paper, Recipe, When, method
from secateur.scores import Influence, LayerAngle
from secateur.structures import Layers


@method(
    "shortgpt",
    paper=Paper(
        "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
        "Men et al.",
        2024,
        "https://arxiv.org/abs/2403.03853",
    ),
    structure="layers",
    when=When.AFTER,
    data="unlabelled sequences, one pass",
    models=["causal-lm", "encoder"],
)
def shortgpt(
    which: Literal["lowest", "contiguous"] = "lowest",
    floor: int = 1,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes whole blocks that hardly turn the residual stream, by the cosine of what enters and what leaves them."""
    structure = Layers(include, exclude, floor=floor)
    if which == "contiguous":
        return Recipe(structure, LayerAngle(), budget=Contiguous())
    return Recipe(structure, Influence(), budget=Global())
