r"""Beta-Rank: filters ranked by what they would be as standardised coefficients (Homayounfar et al., 2023).

The L1 norm of a filter says nothing of what comes in and goes out. With a_k(p) the spread over samples of output k at
position p, and b(p) that of the patch which the filter sees there,

    S_k = min-max over the layer of   mean|f_k| sum_p a_k(p) / b(p)

("in/out", as published: b / a). In each layer the lowest S go, at a rate given for the layer, or the same everywhere.
"""

from collections.abc import Mapping
from typing import Literal

from secateur.budgets import Fixed, Uniform
from secateur.core import Paper, Recipe, Recovery, When, method
from secateur.recovery import FineTune, RescaleKept
from secateur.scores import BetaRank, Coupled
from secateur.structures import Channels


@method(
    "beta-rank",
    paper=Paper(
        "Beta-Rank: A Robust Convolutional Filter Pruning Method For Imbalanced Medical Image Analysis",
        "Homayounfar, Koohi-Moghadam, Rawassizadeh & Vardhanabhuti",
        2023,
        "https://arxiv.org/abs/2304.07461",
    ),
    structure="channels",
    when=When.AFTER,
    data="a few batches of unlabelled inputs; training data to heal",
    models=["cnn"],
)
def beta_rank(
    ratio: Literal["out/in", "in/out"] = "out/in",  # the released code; the published equation is "in/out"
    sparsities: Mapping[str, float] | None = None,
    rescale: bool = False,
    epochs: float | None = None,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes filters that matter least as regression coefficients of standardised inputs and outputs."""
    score = Coupled(BetaRank(ratio), over="mean", of_members="min-max", normalize="none", roles=("producer",))
    training = FineTune(epochs=epochs, optimizer="sgd", lr=0.01, lr_schedule="step", momentum=0.9, weight_decay=5e-4)
    scaled: tuple[Recovery, ...] = (RescaleKept(score),) if rescale else ()
    return Recipe(
        structure=Channels(include, exclude),
        score=score,
        budget=Fixed(sparsities) if sparsities else Uniform(),
        recovery=(*scaled, training),
    )
