"""What sparse training is, whatever it pulls: before each step of the first epochs, gradients of units get more."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secateur.core import Healing, Member, Recovery, Space, Structure, Task, device_of, samples_for, to_device


class SparseTraining(Recovery):
    """A recovery that pulls units to zero in the first epochs of a training.

    Attributes:
        structure: finds the units, anew in each epoch.
        epochs: how long it acts; a schedule that cuts then finds units near zero.
    """

    structure: Structure
    epochs: float

    @abstractmethod
    def pull_(self, space: Space, progress: float) -> None:
        """Add to the gradients of the units, in place.

        Args:
            progress: share of the sparse training that is done, from 0 up to 1.
        """

    @property
    def needs_training(self) -> bool:
        return True

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """See one sample of the test data, on which the structure finds what is coupled."""
        sample = samples_for(model, next(iter(task.batches("test", shuffle=False))))
        structure = self.structure.seeing(lambda m: task.call(m, to_device(sample, device_of(m))))
        return _Pulling(self, structure, model, task.epoch_steps())


class _Pulling(Healing):
    def __init__(self, training: SparseTraining, structure: Structure, model: nn.Module, epoch_steps: int) -> None:
        self._training, self._structure, self._model = training, structure, model
        self._every, self._steps = epoch_steps, round(training.epochs * epoch_steps)
        self._step = 0
        self._space: Space | None = None

    @torch.no_grad()
    def before_step_(self) -> None:
        if self._step < self._steps:
            if self._space is None or self._step % self._every == 0:
                self._space = self._structure.find(self._model)
            self._training.pull_(self._space, self._step / self._steps)
        self._step += 1

    def state(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self._step)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._step = int(state["step"])


def along(values: Float[Tensor, " units"], member: Member) -> Float[Tensor, "..."]:
    """One value per unit, laid along a member's tensor: a position has its unit's value, or 0 if it has no unit."""
    index = member.index
    each = values[:, None].expand(index.shape)
    laid = values.new_zeros(member.group.size)
    laid.index_add_(0, index.reshape(-1).to(values.device), each.reshape(-1))
    return member.along(laid)
