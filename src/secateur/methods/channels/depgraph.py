r"""DepGraph: channels scored by the norm of everything that goes with them (Fang et al., CVPR 2023).

A channel lies in several tensors at once: rows of the layers that make it, columns of those that read it, one number
in each norm between. These members g of a group go together, so they are judged together:

    I_k = 1/|g| sum_{w in g} ||w[k]||_p^p,     S_k = I_k / mean_j I_j        (section 3.3; p = 2)

The lowest S of all groups go, in one cut or in several: after each, what is left is scored anew. Before that, sparse
training can pull weak units to zero (`secateur.recovery.GroupSparsity`).
"""

from typing import Literal

from secateur.budgets import Global, Isomorphic, Uniform, WithCap
from secateur.core import Budget, Paper, Recipe, Recovery, When, method
from secateur.recovery import FineTune, GroupSparsity
from secateur.schedules import Stepwise
from secateur.scores import Coupled, Magnitude
from secateur.structures import Channels


@method(
    "depgraph",
    paper=Paper(
        "DepGraph: Towards Any Structural Pruning",
        "Fang, Ma, Song, Mi & Wang",
        2023,
        "https://arxiv.org/abs/2301.12900",
    ),
    structure="channels",
    when=When.AFTER,
    data="none; training data for sparse training and to heal",
    models=["any"],
)
def depgraph(
    p: float = 2,
    reduction: Literal["mean", "sum", "max", "prod", "first"] = "mean",
    normalizer: Literal["none", "mean", "max", "sum", "min-max", "standard", "lamp"] = "mean",
    scope: Literal["global", "group", "isomorphic"] = "global",
    most: float = 1.0,  # the official `max_pruning_ratio`
    steps: int = 1,  # of the official class; its CIFAR script takes 400
    sparse: float = 0,
    reg: float = 1e-4,
    epochs: float = 0,
    multiple: int = 1,
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes channels, heads and hidden units, judged by the norm of everything that goes with them."""
    structure = Channels(include, exclude, multiple=multiple)
    score = Coupled(Magnitude(p), over=reduction, normalize=normalizer)
    budgets: dict[str, Budget] = {"global": Global(), "group": Uniform(), "isomorphic": Isomorphic(Global())}
    budget = budgets[scope]
    heals: tuple[Recovery, ...] = (FineTune(epochs=sparse + epochs),) if sparse or epochs else ()
    if sparse:
        heals = (*heals, GroupSparsity(structure, score, sparse, reg))
    return Recipe(
        structure=structure,
        score=score,
        budget=budget if most == 1 else WithCap(budget, most),
        schedule=Stepwise(steps, at=f"{sparse} epochs" if sparse else 0),
        recovery=heals,
    )
