r"""Distillation from the dense model's logits (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015).

    loss = (1 - a) loss_task + a T^2 KL( softmax(z_teacher / T) || softmax(z_student / T) )

T^2 keeps the gradient's size independent of the temperature.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secateur.core import Healing, RecipeError, Recovery, Task


def distillation_loss(
    student: Float[Tensor, "*batch classes"], teacher: Float[Tensor, "*batch classes"], temperature: float
) -> Float[Tensor, ""]:
    """T^2 KL(teacher || student) of softened classes, the mean over all positions."""
    soft_teacher = (teacher.float() / temperature).log_softmax(-1)
    soft_student = (student.float() / temperature).log_softmax(-1)
    divergence = (soft_teacher.exp() * (soft_teacher - soft_student)).sum(-1)
    return divergence.mean() * temperature**2


@dataclass(frozen=True)
class Distill(Recovery):
    """The dense model, as it was before pruning, teaches by its logits.

    Attributes:
        weight: share of the teacher in the loss, 0 to 1.
        temperature: softens both distributions.
    """

    weight: float = 0.5
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1 or not self.temperature > 0:
            raise RecipeError(
                f"weight is {self.weight} and temperature {self.temperature}",
                where="Distill(weight, temperature)",
                mend="weight lies in [0, 1], temperature above 0",
            )

    @property
    def needs_training(self) -> bool:
        return True

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """Copy the dense model as the teacher."""
        teacher = copy.deepcopy(model).eval().requires_grad_(False)
        return _Distilling(self, teacher, task)


class _Distilling(Healing):
    def __init__(self, recovery: Distill, teacher: nn.Module, task: Task) -> None:
        self._recovery, self._teacher, self._task = recovery, teacher, task

    def loss(self, loss: Tensor, outputs: Any, batch: Any) -> Tensor:
        with torch.no_grad():
            taught = self._task.call(self._teacher, batch)
        student, teacher = (getattr(o, "logits", o) for o in (outputs, taught))
        weight = self._recovery.weight
        return (1 - weight) * loss + weight * distillation_loss(student, teacher, self._recovery.temperature)
