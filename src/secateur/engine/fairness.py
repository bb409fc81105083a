"""A fair comparison: how long each method trains, and how small a dense model of equal size is."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from secateur.core import Recipe, RecipeError, SubjectError, Target, Task, fit_count, kept_count
from secateur.scores import Magnitude
from secateur.structures import Weights, structure

from .methods import implied_target, seeing

Budget = Literal["equal", "own"]
"""Training: as many steps for all methods (up to one a leg), or `heal` epochs in each leg, as the papers do."""


def leg_epochs(task: Task, recipe: Recipe, target: Target, epochs: float) -> float:
    """Epochs of each leg when `epochs` are divided among the legs of a recipe's schedule, in whole steps.

    Raises:
        RecipeError: a leg would have no step.
    """
    legs = recipe.schedule.legs(target) if recipe.schedule is not None else 1
    steps = round(epochs * task.epoch_steps())
    if 0 < steps < legs:
        raise RecipeError(
            f"{steps} steps cannot be divided among {legs} legs of training",
            where='budget="equal"',
            mend='give more epochs with heal=..., or budget="own", which gives each leg that much',
        )
    return steps // legs / task.epoch_steps()


def parameters_left(model: nn.Module, task: Task, sparsity: float | None, pattern: str | None) -> int:
    """How many parameters stay when a structure loses a share: what a small dense model of equal size has.

    Args:
        task: gives an example for structures that need one.
        sparsity: share of the structure's units that goes; None for a pattern that says so itself.
        pattern: a structure as a text; by default single weights of all matrices.
    """
    recipe = Recipe(Weights() if pattern is None else structure(pattern), score=Magnitude())
    recipe = seeing(recipe, model, task, next(iter(task.batches("test", shuffle=False))))
    space = recipe.structure.find(model)
    if "params" in space.totals:
        share = implied_target(recipe, space, sparsity).sparsity
        stay = {g.name: torch.arange(g.size) < fit_count(g, kept_count(share, g.lane)) for g in space}
        return round(space.totals["params"](stay))
    prunable = sum(group.size * group.costs.get("params", 1.0) for group in space)
    removed = implied_target(recipe, space, sparsity).sparsity * prunable
    return round(sum(p.numel() for p in model.parameters()) - removed)


def of_size(narrow: Callable[[float], nn.Module], parameters: int) -> float:
    """The width, in (0, 1], at which an architecture comes nearest to a number of parameters.

    Args:
        narrow: builds the architecture with all its widths multiplied; more width, more parameters.

    Raises:
        SubjectError: the number of parameters does not follow the width.
    """
    sizes: dict[float, int] = {}

    def size(width: float) -> int:
        if width not in sizes:
            with torch.device("meta"):
                sizes[width] = sum(p.numel() for p in narrow(width).parameters())
        return sizes[width]

    low, high = 0.0, 1.0
    if size(high) < parameters:
        return high
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) < parameters else (low, middle)
    if size(high) == size(1.0) and parameters < 0.9 * size(1.0):
        raise SubjectError(
            f"it has {size(1.0)} parameters at every width",
            where="a small dense model",
            mend="give a factory that takes the width, a number in (0, 1]",
        )
    return min(sizes, key=lambda width: (abs(sizes[width] - parameters), -width))
