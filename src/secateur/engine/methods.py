"""From what a user names to what the engine runs: methods, recipes, targets."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from torch import nn

from secateur import budgets, calibration, recovery, schedules, scores, solvers, structures
from secateur.core import (
    Recipe,
    RecipeError,
    Recovery,
    Space,
    Structure,
    SubjectError,
    Target,
    Task,
    device_of,
    first_call,
    nearest,
    parts_of,
    read_call,
    registry,
    samples_for,
    split_outside,
    to_device,
    validated,
)
from secateur.recovery import FineTune, ScratchB, ScratchE
from secateur.solvers import refining

from .fitting import total_of


def as_recipe(recipe: Recipe | str, **settings: Any) -> Recipe:
    """A recipe as it is, or the one of a registered method with these settings."""
    if isinstance(recipe, str):
        built = registry.get(recipe).recipe(**settings)
        if not isinstance(built, Recipe):
            raise RecipeError(
                f"{recipe!r} has a loop of its own", where="Pruner", mend="use sc.prune, which hands it the loop"
            )
        return built
    if settings:
        name = next(iter(settings))
        raise RecipeError(
            f"the setting {name!r} goes with a method's id, not with a recipe",
            where="sc.prune",
            mend=f"put {name} into the recipe, or name a method",
        )
    return recipe


def adapted(
    recipe: Recipe,
    structure: Structure | str | None,
    heal: float | FineTune | None,
    recovery: str | Sequence[Recovery] | None = None,
) -> Recipe:
    """The recipe with another structure, another recovery, or another length of training.

    Args:
        structure: an object, or a text such as "2:4".
        heal: epochs of fine-tuning in each leg, or a whole `FineTune`; a recovery that is not to train stays so. Of a
            method that trains from scratch alone, the epochs of the dense recipe.
        recovery: objects, or a text such as "fine-tune+distill".
    """
    if structure is not None:
        chosen = structures.structure(structure) if isinstance(structure, str) else structure
        recipe = replace(recipe, structure=chosen)
    if recovery is not None:
        parts = recovery_from(recovery) if isinstance(recovery, str) else tuple(recovery)
        recipe = replace(recipe, recovery=parts)
    alone = recovery is None and _finetune(recipe) is None
    if isinstance(heal, int | float) and alone and any(isinstance(r, ScratchE | ScratchB) for r in recipe.recovery):
        longer = (replace(r, epochs=heal) if isinstance(r, ScratchE | ScratchB) else r for r in recipe.recovery)
        return replace(recipe, recovery=tuple(longer))
    if heal is not None and (recovery is None or _finetune(recipe) is not None):
        old = _finetune(recipe) or FineTune()
        new = heal if isinstance(heal, FineTune) else replace(old, epochs=heal)
        others = tuple(r for r in recipe.recovery if not isinstance(r, FineTune))
        recipe = replace(recipe, recovery=(new, *others))
    return recipe


def one_target(**given: float | None) -> tuple[float | None, str]:
    """The share that goes, and of what cost; of units, where that is empty."""
    asked = {name: value for name, value in given.items() if value is not None}
    if len(asked) > 1:
        names = " and ".join(asked)
        raise RecipeError(f"both {names} are given, and each is a target", where="the call", mend="give one of them")
    if not asked or "sparsity" in asked:
        return asked.get("sparsity"), ""
    ((name, stays),) = asked.items()
    if not 0 < stays <= 1:
        what = f"{name} is {stays}, but the share that stays lies in (0, 1]"
        raise RecipeError(what, where=f"{name}=...", mend=f"{name}=0.5")
    gone = float(1 - Decimal(repr(stays)))  # 1 - 0.1 in binary is not the 0.9 that the user means
    return gone, "" if name == "keep" else name


def seeing(recipe: Recipe, subject: Any, task: Task | None, example: Any) -> Recipe:
    """The recipe whose structure has an example to run the subject on, if there is one."""
    if example is None or not isinstance(subject, nn.Module):
        return recipe
    call = first_call if task is None else task.call
    small = to_device(samples_for(subject, example, 2), device_of(subject))
    return replace(recipe, structure=recipe.structure.seeing(lambda model: call(model, small)))


def _finetune(recipe: Recipe) -> FineTune | None:
    return next((r for r in recipe.recovery if isinstance(r, FineTune)), None)


def recovery_from(text: str) -> tuple[Recovery, ...]:
    """The parts that a text names: "fine-tune+distill(weight=0.7)"; "none" is no part.

    Raises:
        RecipeError: an unknown part or setting; the nearest name is suggested.
    """
    if text.strip() == "none":
        return ()
    names = split_outside(text, "+")
    if not names:
        raise RecipeError("it names no recovery", where=f"recovery={text!r}", mend='"fine-tune", or "none"')
    calls = (read_call(name) for name in names)
    return tuple(build_part("recovery", {name: settings}, f"recovery={text!r}") for name, settings in calls)


def implied_target(recipe: Recipe, space: Space, sparsity: float | None, cost: str = "") -> Target:
    """The target asked for, or the one that an N:M structure or a fixed budget implies.

    Args:
        sparsity: the share that goes,
        cost: of that cost of the whole subject; of the units, where it is empty.

    Raises:
        RecipeError: none is given and none implied, or both and they differ.
        SubjectError: the space has no group.
    """
    if not len(space):
        raise SubjectError(
            "there is nothing to prune: the structure found no group",
            where=type(recipe.structure).__name__,
            mend="give it a subject that has what it prunes",
        )
    if cost:
        if cost != "latency" or not space.totals:  # which is measured, not summed
            total_of(space, cost)
        return Target(sparsity or 0.0, cost)
    implied = None
    if all(g.exact is not None for g in space):
        removed = sum((g.lane - (g.exact or 0)) * g.lanes for g in space)
        implied = removed / space.size
    elif isinstance(recipe.budget, budgets.Fixed | budgets.Exactly):
        implied = recipe.budget.target(space).sparsity
    if sparsity is None:
        if implied is None:
            raise RecipeError("no target is given", where="sparsity=...", mend="say how much goes: sparsity=0.9")
        return Target(implied)
    target = Target(sparsity)
    if implied is not None and abs(implied - sparsity) > 1e-6:
        raise RecipeError(
            f"sparsity is {sparsity}, but this structure or budget removes {implied:.4g}",
            where="sparsity=...",
            mend="leave sparsity out, or change the pattern",
        )
    return Target(implied) if implied is not None else target


_ROOMS = {
    "structure": structures,
    "solve": solvers,
    "refine": refining,
    "score": scores,
    "budget": budgets,
    "schedule": schedules,
    "recovery": recovery,
    "calibration": calibration,
}


def build_part(room: str, given: Any, where: str) -> Any:
    """A part of a recipe from plain data: a name, or `{name: {setting: value}}`.

    Args:
        room: "structure", "score", "solve", "refine", "budget", "schedule", "recovery" or "calibration".
        given: as YAML gives it.
    """
    name, settings = _name_and_settings(given, where)
    if room == "structure" and not settings and name not in parts_of(structures):
        return structures.structure(name)
    known = parts_of(_ROOMS[room])
    if name not in known:
        raise RecipeError(f"there is no {room} {name!r}", where=where, mend=nearest(name, known))
    for part in _ROOMS.keys() & settings.keys():
        if isinstance(settings[part], str | dict):
            settings = settings | {part: build_part(part, settings[part], f"{where}.{part}")}
    return known[name](**validated(known[name], settings, where=f"{where}: {name}"))


def _name_and_settings(given: Any, where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(given, str):
        return given, {}
    if isinstance(given, dict) and len(given) == 1:
        name, settings = next(iter(given.items()))
        if isinstance(name, str) and (settings is None or isinstance(settings, dict)):
            return name, settings or {}
    raise RecipeError(
        f"{given!r} names no part",
        where=where,
        mend="write a name, or {name: {key: value}}",
    )
