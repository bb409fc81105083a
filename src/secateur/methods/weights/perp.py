r"""PERP, Parameter-Efficient Retraining after Pruning (Zimmer, Andoni, Spiegel & Pokutta, 2023).

What pruning breaks, a tiny subset of the parameters mends: biases, norms, the head, adapters of the pruned matrices,

    W + (alpha / r) (B A) * M     with the mask M, A of r rows and B of r columns, B = 0 at the start

and everything else is frozen. The adapters are merged in the end, exactly, and the zeros of W stay. Magnitude chooses
what goes; as a recovery, `secateur.recovery.ParameterEfficient` follows any other score, structure or schedule.
The second mode trains one block after another on what the dense block gave (`secateur.recovery.Reconstruct`).
"""

from typing import Literal

from secateur.budgets import Uniform
from secateur.core import Paper, Recipe, Recovery, When, method
from secateur.recovery import FineTune, ParameterEfficient, Reconstruct
from secateur.schedules import OneShot
from secateur.scores import Magnitude
from secateur.structures import Weights


@method(
    "perp",
    paper=Paper(
        "PERP: Rethinking the Prune-Retrain Paradigm in the Era of LLMs",
        "Zimmer, Andoni, Spiegel & Pokutta",
        2023,
        "https://arxiv.org/abs/2312.15230",
    ),
    structure="weights, N:M, blocks",
    when=When.AFTER,
    data="training data",
    models=["any"],
)
def perp(
    subsets: tuple[Literal["biases", "norm", "lora", "head"], ...] = ("biases", "norm", "lora", "head"),
    lora: Literal["lora", "lora_prune", "mask_lora", "scale_lora"] = "mask_lora",
    rank: int = 16,
    alpha: float = 32.0,
    targets: tuple[str, ...] = (),
    mode: Literal["retrain", "reconstruct"] = "retrain",
    epochs: float = 1,
    steps: int = 200,
    lr: float = 5e-4,  # the paper tries 5e-6 to 5e-4, more for biases and norms alone
    per: Literal["group", "row"] = "group",
    include: tuple[str, ...] = ("*",),
    exclude: tuple[str, ...] = (),
) -> Recipe:
    """Removes the smallest weights of every matrix, and retrains a tiny subset of the parameters."""
    adapters = (lora, rank, alpha, targets)
    if mode == "reconstruct":
        of_blocks = tuple(s for s in subsets if s != "head")  # no block has one
        recovery: tuple[Recovery, ...] = (Reconstruct(steps, lr, 0.1, of_blocks, *adapters),)
    else:
        training = FineTune(epochs, optimizer="adamw", lr=lr, lr_schedule="linear", weight_decay=0.0, warmup=0.1)
        recovery = (training, ParameterEfficient(subsets, *adapters))
    return Recipe(
        structure=Weights(include, exclude),
        score=Magnitude(),
        budget=Uniform(per),
        schedule=OneShot(),
        recovery=recovery,
        propagation="pruned" if mode == "reconstruct" else "whole",
    )
