"""What all cells of a comparison share: where models come from, and the task."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from secateur.core import RecipeError, Task
from secateur.tasks import builtin_model

from .rng import seeded
from .sources import factory_of, model_from, task_from

Narrow = Callable[[float], nn.Module]
"""Builds an architecture with its widths multiplied by a number in (0, 1]."""


@dataclass(frozen=True)
class Bench:
    """What all cells of a comparison share.

    Attributes:
        make: the model of a seed: untrained (then the dense cell trains it), or already trained.
        trained: whether `make` gives trained models.
        task: data, loss, metrics.
        narrow: builds small dense models; None where none was asked for.
    """

    make: Callable[[int], nn.Module]
    trained: bool
    task: Task
    narrow: Narrow | None = None


def bench_from(
    model: str | nn.Module, task: str | Task, train: bool | None, small_dense: bool | str | Narrow = False
) -> Bench:
    """The bench for names (built anew in every process) or objects.

    Args:
        train: whether the model must be trained first; by default a `builtin:` model must, any other is trained.
        small_dense: a factory or its name `file.py:factory`; True for a built-in model, which knows its widths.

    Raises:
        RecipeError: a name that names nothing, or a model whose widths nobody knows.
    """
    goal = task_from(task) if isinstance(task, str) else task
    untrained = train if train is not None else isinstance(model, str) and model.startswith("builtin:")

    def make(seed: int) -> nn.Module:
        with seeded(seed):
            return model_from(model) if isinstance(model, str) else copy.deepcopy(model)

    return Bench(make, not untrained, goal, _narrow(model, small_dense))


def _narrow(model: str | nn.Module, small_dense: bool | str | Narrow) -> Narrow | None:
    if isinstance(small_dense, str):
        return factory_of(small_dense)
    if not isinstance(small_dense, bool):
        return small_dense
    if not small_dense:
        return None
    if isinstance(model, str) and model.startswith("builtin:"):
        name = model.removeprefix("builtin:")
        return lambda width: builtin_model(name, width)
    raise RecipeError(
        "only built-in models know how to be narrower",
        where="small_dense=True",
        mend='give a factory of the width: small_dense="file.py:factory", where factory(0.5) has half of all widths',
    )
