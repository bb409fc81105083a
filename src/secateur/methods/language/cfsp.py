r"""CFSP: how many neurons of each block stay, and then which (Wang et al., COLING 2025).

Coarse, between blocks, from one dense pass: I_l is the angular distance between the tokens before and after block l,

    c_l = sigmoid(a (I_l - mean I)),     keep_l = c_l / mean(c) (1 - s)

Fine, within a block, for neuron j with norm n_j at the input of the down projection:

    S_j = n_j^c mean_i [ r(|W_down,ij| n_j^b) + r(|W_up,ji|) + r(|W_gate,ji|) ]

r divides by the sum over the neurons, for each dimension i of the block; the released code divides by that over i, so
that weights cancel (`compat="release"`). MLPs without a gate have two terms.
"""

from typing import Literal

from secateur.budgets import AngularShares, Uniform
from secateur.core import Paper, Recipe, When, method
from secateur.scores import CoarseToFine
from secateur.structures import Channels


@method(
    "cfsp",
    paper=Paper(
        "CFSP: An Efficient Structured Pruning Framework for LLMs with Coarse-to-Fine Activation Information",
        "Wang, Ma, Fu, Lin, Li, Wang & Zhang",
        2025,
        "https://arxiv.org/abs/2409.13199",
    ),
    structure="channels",
    when=When.AFTER,
    data="about a hundred unlabelled sequences",
    models=["causal-lm", "encoder", "any"],
)
def cfsp(
    a: float = 1.0,
    b: float = 1.0,
    c: float = 1.0,
    coarse: Literal["angular", "constant"] = "angular",
    compat: Literal["none", "release"] = "none",
    round_to: int = 1,
    floor: int = 1,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes MLP neurons, more of them from blocks that turn their tokens less, by activation and relative weight."""
    return Recipe(
        structure=Channels(include, exclude, ("hidden", "channels"), floor, streams=False),
        score=CoarseToFine(b, c, compat),
        budget=AngularShares(a, round_to, compat) if coarse == "angular" else Uniform(),
    )
