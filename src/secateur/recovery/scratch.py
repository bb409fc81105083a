r"""From scratch: what pruning left is trained from new random weights (Liu et al., "Rethinking the Value of Network
Pruning", ICLR 2019).

    Scratch-E: as many epochs as the dense model,           E
    Scratch-B: as many multiplications as the dense model,  int(E * MACs_dense / MACs_pruned)

Both follow the dense recipe; a learning rate that falls at fractions of the training falls at the same ones.
"""

from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from secateur.core import Healing, RecipeError, Recovery, Task, Training

Architecture = Literal["own", "uniform"]


@dataclass(frozen=True)
class ScratchE(Recovery):
    """Train what is left from new random weights, for as many epochs as the dense model.

    What a recipe trains before that, by `FineTune`, only finds the architecture or the mask; other recoveries then act
    there, and not on the training from scratch, which they do where there is no `FineTune`. Cut models are
    initialised by the `reset_parameters` of their modules at the sizes that are left, masked ones under their masks.

    Attributes:
        epochs: of the dense recipe; the task's own by default.
        architecture: "own", what the method left; or "uniform", which tells the search for an architecture from the
            rest: every group loses the same share, at the same MACs (masks: at the same sparsity).
    """

    epochs: float | None = None
    architecture: Architecture = "own"

    def __post_init__(self) -> None:
        _check(self.epochs, f"ScratchE(epochs={self.epochs})")

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """The engine trains; there is nothing to hook."""
        return Healing()

    def training(self, task: Task, ratio: float) -> Training:
        """The dense recipe. `ratio` is MACs_dense / MACs_pruned, which does not count here."""
        return replace(task.training, epochs=task.training.epochs if self.epochs is None else self.epochs)


@dataclass(frozen=True)
class ScratchB(Recovery):
    """Train what is left from new random weights, until it has cost as many multiplications as the dense model.

    Attributes:
        epochs, architecture: as of `ScratchE`.
        flops_model: "dense", what dense kernels multiply, where masks save nothing; or "ideal", multiplications by
            weights that are not zero, as if a sparse runtime left the others out.
        most: how many times the dense epochs at most; the paper's ImageNet models stop at 2.
    """

    epochs: float | None = None
    architecture: Architecture = "own"
    flops_model: Literal["dense", "ideal"] = "dense"
    most: float | None = None

    def __post_init__(self) -> None:
        _check(self.epochs, f"ScratchB(epochs={self.epochs})")
        if self.most is not None and not self.most >= 1:
            raise RecipeError(f"most is {self.most}", where="ScratchB(most=...)", mend="1 or more; 2 for ImageNet")

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """The engine trains; there is nothing to hook."""
        return Healing()

    def training(self, task: Task, ratio: float) -> Training:
        """The dense recipe, stretched.

        Args:
            ratio: MACs_dense / MACs_pruned, 1 or more.
        """
        dense = task.training.epochs if self.epochs is None else self.epochs
        return replace(task.training, epochs=stretched(dense, ratio, self.most))


Scratch = ScratchE | ScratchB


def stretched(epochs: float, ratio: float, most: float | None = None) -> float:
    """int(epochs * ratio), and never fewer than `epochs`, which may be a part of one."""
    times = ratio if most is None else min(ratio, most)
    return max(epochs, int(round(epochs * times, 9)))


def _check(epochs: float | None, where: str) -> None:
    if epochs is not None and not epochs > 0:
        raise RecipeError(f"epochs is {epochs}", where=where, mend="above 0, or None for the task's own")
