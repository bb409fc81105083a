"""Training from scratch what pruning left: whether that makes sense, how long, and with which architecture."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from secateur.budgets import Uniform
from secateur.core import CheckpointError, Recipe, RecipeError, Task, Training
from secateur.recovery import FineTune, Scratch, ScratchB, ScratchE
from secateur.scores import Magnitude

from .measure import multiplications
from .runfolder import RunFolder

PHASE = "scratch"
"""Of a run that finds an architecture first."""


def scratch_of(recipe: Recipe) -> Scratch | None:
    """The part of a recipe that trains from scratch, if there is one."""
    return next((r for r in recipe.recovery if isinstance(r, ScratchE | ScratchB)), None)


def check_scratch(recipe: Recipe) -> None:
    """Raise `RecipeError` where for how long to train from scratch is undefined."""
    scratch = scratch_of(recipe)
    if isinstance(scratch, ScratchB) and scratch.flops_model == "dense" and not recipe.structure.cuts:
        raise RecipeError(
            "the multiplications that masks save are undefined without a sparse runtime: dense kernels do them all",
            where=f"ScratchB with the structure {type(recipe.structure).__name__}",
            mend='"scratch-e"; or "scratch-b(flops_model=ideal)", which counts weights that are not zero',
        )


def begun_in(folder: RunFolder | None) -> dict[str, Any] | None:
    """The state of a run that was killed while it trained from scratch; None where it had not come so far.

    Raises:
        CheckpointError: the state does not say for how long.
    """
    state = None if folder is None else folder.read()
    if folder is None or state is None or state.get("phase") != PHASE:
        return None
    if not isinstance(state.get("epochs"), int | float):
        where, mend = str(folder.path / "state.safetensors"), "delete it to start that run again"
        raise CheckpointError("the state does not say how long to train", where=where, mend=mend)
    return state


def training_of(scratch: Scratch, task: Task, before: Mapping[str, Any], model: nn.Module, example: Any) -> Training:
    """How long, and how, what is left is trained.

    Args:
        before: measures of the dense model.
        model: what is left of it.
        example: to count multiplications with.
    """
    if isinstance(scratch, ScratchE):
        return scratch.training(task, 1.0)
    left = multiplications(model, task, example)["macs_nonzero" if scratch.flops_model == "ideal" else "macs"]
    return scratch.training(task, before["macs"] / max(left, 1))


def searching(recipe: Recipe) -> Recipe:
    """The recipe without what trains from scratch: it finds how much is left."""
    return replace(recipe, recovery=tuple(r for r in recipe.recovery if not isinstance(r, ScratchE | ScratchB)))


def equal_shares(recipe: Recipe) -> Recipe:
    """The recipe that takes the same share of every group at once, and then trains from scratch."""
    own = tuple(r for r in recipe.recovery if not isinstance(r, FineTune))
    return replace(recipe, score=Magnitude(1), solve=None, budget=Uniform(), schedule=None, recovery=own)
