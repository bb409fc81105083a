r"""SPA, Structurally Prune Anything: any criterion of weights, for units of any network (Wang et al., 2024).

A unit k lies in slices J of several parameters theta. From any score of weights s(w) >= 0,

    S_k = sum_theta  a_theta(k) / mean_j a_theta(j),     a_theta(k) = sum_{w in J_theta(k)} s(w)      (section 3.2)

so that large tensors do not drown small ones; S is then divided by its mean over the group, and the lowest of all
groups go. `at` says when: before training (an untrained model, and `epochs` after the cut), during it, or after it.
"""

from typing import Literal

from secateur.budgets import Global
from secateur.core import Paper, Point, Recipe, When, method
from secateur.recovery import FineTune
from secateur.schedules import Stepwise
from secateur.scores import Coupled, GradientMagnitude, Magnitude, Taylor
from secateur.structures import Channels

_CRITERIA = {"l1": Magnitude(), "l2": Magnitude(2), "snip": Taylor(), "gradient": GradientMagnitude()}


@method(
    "spa",
    paper=Paper(
        "Structurally Prune Anything: Any Architecture, Any Framework, Any Time",
        "Wang, Rachwan, Günnemann & Charpentier",
        2024,
        "https://arxiv.org/abs/2403.18955",
    ),
    structure="channels",
    when=When.AFTER,
    data="none, or training batches for gradients; training data to heal",
    models=["any"],
)
def spa(
    criterion: Literal["l1", "l2", "snip", "gradient"] = "l1",
    aggregate: Literal["sum", "mean", "max", "prod"] = "sum",
    scale: Literal["none", "mean", "max", "sum"] = "mean",
    at: Point = 0,
    steps: int = 1,
    epochs: float = 0,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes channels, heads and hidden units of any network by any score of its weights, at any time."""
    score = Coupled(_CRITERIA[criterion], over=aggregate, of_members=scale, normalize="mean", biases=True)
    return Recipe(
        structure=Channels(include, exclude),
        score=score,
        budget=Global(),
        schedule=Stepwise(steps, at),
        recovery=(FineTune(epochs=epochs),) if epochs else (),
    )
