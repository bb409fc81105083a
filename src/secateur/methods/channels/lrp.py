r"""LRP, "Pruning by Explaining": units through which little of the decision went (Yeom et al., 2021).

For a few reference samples, the logit of the true class is sent back as relevance R, each output sharing its own among
its inputs by what they gave it (z+ rule, section 2.2):

    R_i = sum_j  x_i w_ij^+ / (sum_i' x_i' w_i'j^+)  R_j

A unit's score is the sum of R at its output over samples and positions, as a share of its layer. The lowest of all
layers go, little by little, each time on the network as it is by then. Batch norms count as part of the layer before.
"""

from typing import Literal

from secateur.budgets import Global
from secateur.core import Paper, Recipe, Rules, When, method
from secateur.recovery import FineTune
from secateur.schedules import Stepwise
from secateur.scores import LRP, Coupled
from secateur.structures import Channels


@method(
    "lrp",
    paper=Paper(
        "Pruning by Explaining: A Novel Criterion for Deep Neural Network Pruning",
        "Yeom, Seegerer, Lapuschkin, Binder, Wiedemann, Müller & Samek",
        2021,
        "https://arxiv.org/abs/1912.08881",
    ),
    structure="channels",
    when=When.AFTER,
    data="a few labelled samples of each class",
    models=["cnn", "mlp", "vit"],
)
def lrp(
    conv: Literal["z+", "alpha-beta", "epsilon"] = "z+",
    linear: Literal["z+", "alpha-beta", "epsilon"] = "z+",
    alpha: float = 2.0,
    epsilon: float = 1e-6,
    start: Literal["logit", "one"] = "logit",  # "one" in the 2024 revisit
    per_class: int = 10,
    absolute: bool = False,
    over: Literal["mean", "sum", "max"] = "mean",  # of the layers that write a unit
    steps: int = 10,
    epochs: float = 0,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes channels and hidden units through which little of the decision for the right class went."""
    score = LRP(Rules(conv, linear, alpha, epsilon, start, per_class), absolute)
    return Recipe(
        structure=Channels(include, exclude),
        score=Coupled(score, over=over, normalize="none", roles=("producer",)),
        budget=Global(),
        schedule=Stepwise(steps),
        recovery=(FineTune(epochs=epochs),) if epochs else (),
    )
