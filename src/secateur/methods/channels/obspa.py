r"""OBSPA: channels scored and their readers repaired by the optimal brain surgeon (Wang et al., 2024, section 3.3).

A layer that reads a channel as the inputs J loses least when its other weights take over. With H = 2/N sum x x^T over
its inputs x, damped, and W its weight matrix:

    e_J = sum_o W[o,J] ([H^-1]_JJ)^-1 W[o,J]^T                         (what is lost: twice the mean squared error)
    W  <- W - W[:,P] ([H^-1]_PP)^-1 [H^-1]_P,:                         (P: all that goes; the columns P become zero)

A convolution reads a channel as kh x kw inputs, so J is a block. Scores of all readers of a unit are put together as
in SPA. The inputs may be the task's, other data (a task with them), or noise: then no data is needed.
"""

from typing import Literal

from secateur.budgets import Global
from secateur.calibration import Noise
from secateur.core import Paper, Recipe, When, method
from secateur.recovery import ObsUpdate, RecalibrateBN
from secateur.schedules import Stepwise
from secateur.scores import ObsError
from secateur.structures import Channels


@method(
    "obspa",
    paper=Paper(
        "Structurally Prune Anything: Any Architecture, Any Framework, Any Time",
        "Wang, Rachwan, Günnemann & Charpentier",
        2024,
        "https://arxiv.org/abs/2403.18955",
    ),
    structure="channels",
    when=When.AFTER,
    data="a few hundred unlabelled inputs, or none",
    models=["any"],
)
def obspa(
    inputs: Literal["task", "noise"] = "task",
    noise: Literal["normal", "uniform"] = "normal",
    damping: float = 0.01,
    rounds: int = 5,
    aggregate: Literal["sum", "mean", "max", "prod"] = "sum",
    scale: Literal["none", "mean", "max", "sum"] = "mean",
    batchnorm: float = 0.2,
    kinds: tuple[str, ...] = ("channels", "hidden", "heads", "kv-groups"),
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes channels and refits what read them, without training and, if need be, without data."""
    # batch-norm statistics of noise would destroy those of the data
    norms = (RecalibrateBN(batchnorm),) if batchnorm and inputs == "task" else ()
    return Recipe(
        structure=Channels(include, exclude, kinds),
        score=ObsError(damping, aggregate, scale),
        budget=Global(),
        schedule=Stepwise(rounds),
        recovery=(ObsUpdate(damping), *norms),
        calibration=Noise(distribution=noise) if inputs == "noise" else None,
    )
