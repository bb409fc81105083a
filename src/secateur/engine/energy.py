"""The energy that training takes, of one model against another."""

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn

from secateur.analysis import EnergyComparison, compare_energy
from secateur.core import RecipeError, Task, check_loss, device_of, to_device
from secateur.core.task import Batch
from secateur.recovery import optimizer_for


def training_energy(
    first: nn.Module, second: nn.Module, task: Task, *, steps: int, country: str, pairs: int = 3
) -> EnergyComparison:
    """So many steps of training of both models, back to back in pairs; the models themselves are left as they are.

    Args:
        task: data, loss, and how to train.
        steps: of the optimizer, in each half of a pair; the longer, the less a reading at its ends matters.
        country: three letters, as for `secateur.analysis.measure_energy`.

    Raises:
        MissingExtra: codecarbon is not installed.
        RecipeError: there is no step, or no such country.
    """
    if steps < 1:
        raise RecipeError(f"steps is {steps}", where="training_energy(steps=...)", mend="1 or more")
    return compare_energy(_training(first, task, steps), _training(second, task, steps), country=country, pairs=pairs)


def _training(model: nn.Module, task: Task, steps: int) -> Callable[[], None]:
    twin = copy.deepcopy(model).train()
    optimizer, batches = optimizer_for(twin, task.training), _endless(task)

    def train() -> None:
        for _ in range(steps):
            batch = to_device(next(batches), device_of(twin))
            loss = task.loss(task.call(twin, batch), batch)
            check_loss(loss.detach(), "measuring the energy of training")
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()

    return train


def _endless(task: Task) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from task.batches("train", epoch=epoch)
        epoch += 1
