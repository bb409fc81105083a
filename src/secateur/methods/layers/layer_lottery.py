r"""Layer lottery: whole residual blocks go before training, and what stays is a ticket (Jordao et al., 2023).

A layer is a residual block that passes its input on: with blocks B_k and scores of weights S, the p lowest

    mean of S(w) over the weights w of B_k

leave the untrained network in one shot, whatever stage they are in, and the shallower network trains as the dense one
would. The mean, because a sum would grow with the width of a stage. S is GraSP or SNIP (`secateur.scores`). With
`rewind_to`, the dense network trains first, blocks are judged then, and the survivors return to an early value, or keep
theirs ("end") and only the learning rate starts again.
"""

from typing import Literal

from secateur.budgets import Exactly, Global
from secateur.core import Balanced, Paper, Point, Recipe, Score, When, method
from secateur.recovery import FineTune
from secateur.schedules import OneShot, Rewinding
from secateur.scores import KL, Crop, Grasp, Random, Snip, Whole
from secateur.structures import Layers


def _score(criterion: str, per_class: int) -> Score:
    match criterion:
        case "grasp":
            return Whole(Grasp(Balanced(per_class, temperature=200.0)))
        case "snip":
            return Whole(Snip(Balanced(per_class)))
        case "crop":
            return Whole(Crop(Balanced(per_class)))
        case "kl":
            return KL()
    return Random()


@method(
    "layer-lottery",
    paper=Paper(
        "When Layers Play the Lottery, all Tickets Win at Initialization",
        "Jordao, de Araujo, Maia & Pedrini",
        2023,
        "https://arxiv.org/abs/2301.10835",
    ),
    structure="layers",
    when=When.BEFORE,
    data="a few labelled samples of each class to prune; training data to train",
    models=["cnn"],
    start="init",
)
def layer_lottery(
    remove: int | None = None,
    criterion: Literal["grasp", "snip", "crop", "kl", "random"] = "grasp",
    rewind_to: Point | None = None,  # None prunes at initialisation
    per_class: int = 10,
    floor: int = 0,
    epochs: float | None = None,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes whole residual blocks before training, or after it with rewinding, and trains what stays."""
    return Recipe(
        structure=Layers(include, exclude, floor=floor),
        score=_score(criterion, per_class),
        budget=Global() if remove is None else Exactly(remove),
        schedule=OneShot() if rewind_to is None else Rewinding(None, rewind_to),
        recovery=(FineTune(epochs=epochs),),
    )
