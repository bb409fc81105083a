"""The names behind `builtin:NAME`, for models and tasks."""

from collections.abc import Callable

import torch
from torch import nn

from secateur.core import RecipeError, Task, nearest

from . import digits, models

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "digits-cnn": models.digits_cnn,
    "digits-mlp": models.digits_mlp,
    "resnet20": models.resnet20,
}
_TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits.digits,
    "digits-flat": digits.digits_flat,
}


def builtin_models() -> list[str]:
    """The names of the built-in models."""
    return sorted(_MODELS)


def builtin_tasks() -> list[str]:
    """The names of the built-in tasks."""
    return sorted(_TASKS)


def builtin_model(name: str, width: float = 1.0) -> nn.Module:
    """A built-in model, untrained, from the global generator.

    Args:
        width: multiplies all hidden widths; below 1 for a small dense model.

    Raises:
        RecipeError: an unknown name.
    """
    if name not in _MODELS:
        raise RecipeError(f"there is no built-in model {name!r}", where="builtin:NAME", mend=nearest(name, _MODELS))
    return _MODELS[name]() if width == 1 else _MODELS[name](width)


def builtin_name(model: nn.Module) -> str | None:
    """The name of the built-in model that this one is, by class and shapes; None for any other."""
    if type(model).__module__ != models.__name__:
        return None
    shapes = {n: t.shape for n, t in model.state_dict().items()}
    for name, make in _MODELS.items():
        with torch.device("meta"):
            twin = make()
        if type(twin) is type(model) and {n: t.shape for n, t in twin.state_dict().items()} == shapes:
            return name
    return None


def builtin_task(name: str) -> Task:
    """A built-in task. Raises `RecipeError` for an unknown name."""
    if name not in _TASKS:
        raise RecipeError(f"there is no built-in task {name!r}", where="builtin:NAME", mend=nearest(name, _TASKS))
    return _TASKS[name]()
