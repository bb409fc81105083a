r"""Group-norm sparse training (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, equation 5).

While the network trains, every slice w of a coupled unit k is pulled to zero, the less important units harder:

    grad(w) += reg * gamma_k * w,     gamma_k = alpha^((max I - I_k) / (max I - min I)),     alpha = 2^4

I_k is the square root of the unit's score. gamma lies in [1, alpha]. A unit that will be cut is near zero before it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from secateur.core import (
    Group,
    Healing,
    RecipeError,
    Recovery,
    Score,
    Space,
    Stats,
    Structure,
    Task,
    device_of,
    samples_for,
    to_device,
)


def growth(importance: Float[Tensor, " units"], alpha: float) -> Float[Tensor, " units"]:
    """gamma_k: 1 for the most important unit, alpha for the least; 1 for all where none is more important."""
    span = importance.amax() - importance.amin()
    # the official code skips a group of equal units, because it divides by zero there
    return alpha ** ((importance.amax() - importance) / span) if span > 0 else torch.ones_like(importance)


def at_positions(
    values: Float[Tensor, " units"], index: Int[Tensor, "units positions"], size: int
) -> Float[Tensor, " size"]:
    """One value per position of a dimension: that of the unit which it belongs to, 0 where it belongs to none."""
    each = values[:, None].expand(index.shape)
    return values.new_zeros(size).index_add_(0, index.reshape(-1).to(values.device), each.reshape(-1))


@dataclass(frozen=True)
class GroupSparsity(Recovery):
    """Weight decay of coupled units in the first epochs of a training, up to `alpha` times stronger for weak units.

    Attributes:
        structure: finds the units, anew in each epoch.
        score: of units, without data; its square root is their importance.
        epochs: how long it acts; a schedule that cuts then finds units near zero.
        reg: the decay of the most important unit of each group.
        alpha: how many times stronger it is for the least important one.
    """

    structure: Structure
    score: Score
    epochs: float
    reg: float = 1e-4
    alpha: float = 16.0

    def __post_init__(self) -> None:
        if not (self.epochs >= 0 and self.reg >= 0 and self.alpha >= 1):
            raise RecipeError(
                f"epochs, reg and alpha are {self.epochs}, {self.reg} and {self.alpha}",
                where="GroupSparsity(epochs, reg, alpha)",
                mend="none is negative, and alpha is 1 or more: the paper takes reg=1e-4, alpha=16",
            )
        if self.score.needs:
            raise RecipeError(
                f"{type(self.score).__name__} reads data, and this score is asked at every step",
                where="GroupSparsity(score=...)",
                mend="use a score of weights alone, such as Coupled(Magnitude(2))",
            )

    @property
    def needs_training(self) -> bool:
        return True

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """See one sample of the test data, on which the structure finds what is coupled."""
        sample = samples_for(model, next(iter(task.batches("test", shuffle=False))))
        structure = self.structure.seeing(lambda m: task.call(m, to_device(sample, device_of(m))))
        return _Shrinking(self, structure, model, task.epoch_steps())


class _Shrinking(Healing):
    def __init__(self, recovery: GroupSparsity, structure: Structure, model: nn.Module, epoch_steps: int) -> None:
        self._recovery, self._structure, self._model = recovery, structure, model
        self._every, self._steps = epoch_steps, round(recovery.epochs * epoch_steps)
        self._step = 0
        self._space: Space | None = None

    @torch.no_grad()
    def before_step_(self) -> None:
        if self._step < self._steps:
            if self._space is None or self._step % self._every == 0:
                self._space = self._structure.find(self._model)
            for group in self._space:
                self._shrink_(group)
        self._step += 1

    def _shrink_(self, group: Group) -> None:
        importance = self._recovery.score(group, Stats()).clamp_min(0).sqrt()
        strength = self._recovery.reg * growth(importance, self._recovery.alpha)
        for member in group.members:
            weight = member.tensor
            if member.is_parameter and not member.is_bias and weight.grad is not None:
                each = at_positions(strength, member.index, weight.shape[member.dim])
                shape = [1] * weight.dim()
                shape[member.dim] = -1
                weight.grad += (each.reshape(shape) * weight).to(weight.grad.dtype)

    def state(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self._step)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._step = int(state["step"])
