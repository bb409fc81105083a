r"""LLM-Pruner: heads and neurons are judged by what the loss changes by without them (Ma et al., NeurIPS 2023).

A unit lies in several matrices: a neuron in gate, up and down, a head in q, k, v and o; where heads share keys and
values, the unit is the group of them. With g the gradient of the mean loss over a few sequences and F the mean of the
squared gradients of each, a weight w scores (section 3.2)

    param_first   |g w|                  param_mix   |g w - w F w / 2|
    param_second  w F w                  vectorize   |sum g w| over each row or column

These are summed over the unit's slice of each matrix, then over the matrices. The lowest go, the same share of every
group, but for blocks at both ends, which stay whole: the official scripts prune blocks 4 to 29 of LLaMA-7B's 32. Then
low-rank adapters W + (alpha / r) B A of all linear layers are trained, and merged.
"""

from typing import Literal

from secateur.budgets import AtLeastOne, Global, Isomorphic
from secateur.core import Budget, Paper, Recipe, Recovery, When, method
from secateur.recovery import FineTune, ParameterEfficient
from secateur.schedules import Stepwise
from secateur.scores import Coupled, Taylor
from secateur.structures import Channels


@method(
    "llm-pruner",
    paper=Paper(
        "LLM-Pruner: On the Structural Pruning of Large Language Models",
        "Ma, Fang & Wang",
        2023,
        "https://arxiv.org/abs/2305.11627",
    ),
    structure="heads, channels",
    when=When.AFTER,
    data="about ten sequences, with gradients; training text to heal",
    models=["causal-lm", "encoder", "any"],
)
def llm_pruner(
    taylor: Literal["param_first", "param_second", "param_mix", "vectorize"] = "param_first",
    over: Literal["sum", "prod", "max", "first", "mean"] = "sum",
    scope: Literal["group", "global", "isomorphic"] = "group",
    first: int | float = 0.125,  # 4 of LLaMA-7B's 32 blocks
    last: int | float = 0.0625,  # 2 of them
    steps: int = 1,
    epochs: float = 2,
    lr: float = 1e-4,
    rank: int = 8,
    alpha: float = 16.0,
    floor: int = 1,
    multiple: int = 1,
    kinds: tuple[str, ...] = ("attention", "hidden", "channels"),
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes heads and neurons by the change of the loss, not at the ends, and heals with merged adapters."""
    budgets: dict[str, Budget] = {"group": AtLeastOne(), "global": Global(), "isomorphic": Isomorphic(Global())}
    heals: tuple[Recovery, ...] = ()
    if epochs:
        # the official script warms up for 100 steps of about 1,560
        training = FineTune(epochs, optimizer="adamw", lr=lr, lr_schedule="linear", weight_decay=0.0, warmup=0.06)
        heals = (training, ParameterEfficient(("lora",), rank=rank, alpha=alpha))
    return Recipe(
        structure=Channels(include, exclude, kinds, floor, multiple, streams=False, ends=(first, last)),
        score=Coupled(Taylor(taylor), over=over, normalize="none"),
        budget=budgets[scope],
        schedule=Stepwise(steps),
        recovery=heals,
    )
