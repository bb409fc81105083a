"""A choice, and the better one of the same size that a recipe's `refine` finds from it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import Choice, Kind, Move, Recipe, RecipeError, Space, Stats, SubjectError, Task

from .decide import scores_of


def check_refine(recipe: Recipe, subject: Any, task: Task | None) -> None:
    """Raise `RecipeError` where there is nothing to try choices with, or a choice cannot be taken back."""
    if recipe.refine is None:
        return
    name = type(recipe.refine).__name__
    if recipe.structure.cuts:
        what, mend = "it lets pruned units come back, and what is cut out is gone", 'structure="weights" or "2:4"'
        raise RecipeError(what, where=f"Recipe(refine={name})", mend=mend)
    if not isinstance(subject, nn.Module):
        raise SubjectError(f"a {type(subject).__name__} has no loss", where=f"refine={name}", mend="give a model")
    if task is None:
        raise RecipeError(
            f"{name} needs data and a loss, and there is no task",
            where="Recipe(refine=...)",
            mend="pass task=sc.Task(train=..., test=...)",
        )


def originals(space: Space) -> dict[str, Tensor]:
    """Copies of the weights of all groups, for a choice that is carried out before it is refined."""
    return {g.name: g.site.tensor.detach().clone() for g in space if g.site is not None}


def refined(
    model: nn.Module,
    recipe: Recipe,
    move: Move,
    space: Space,
    choice: Choice,
    stats: Stats,
    task: Task,
    batches: Sequence[Any],
    before: Mapping[str, Tensor] | None = None,
) -> tuple[Choice, dict[str, Any]]:
    """The better choice, with the values that its units have, and what is worth recording; the model is as it was.

    Args:
        choice: has been carried out already where `before` is given.
        stats: of the decision; its keep is what there was to choose from.
        before: the weights before that, by group. Then there are no scores: each block was judged by what it heard.
    """
    if recipe.refine is None or move.kind is not Kind.PRUNE:
        return choice, {}
    values = dict(choice.values)
    for group in space:
        if group.site is None or group.name not in choice.keep or (before is None and group.name not in values):
            continue
        live = group.site.tensor.detach()
        stays = group.site.spread(choice.keep[group.name].to(live.device))
        dense = live if before is None else before[group.name]
        values[group.name] = torch.where(stays, values.get(group.name, live).to(live), dense)
    with _holding(space, values):
        score = move.score or recipe.score
        known = {} if score is None or before is not None else scores_of(space, score, stats)
        told = replace(stats, scores=known)
        keep, facts = recipe.refine(model, space, choice.keep, told, task, batches)
    if keep.counts != choice.keep.counts:
        raise RecipeError(
            f"{type(recipe.refine).__name__} changed how many units stay",
            where="Recipe(refine=...)",
            mend="a refined keep has the counts of the first one",
        )
    return replace(choice, keep=keep, values=values), {"refined": dict(facts)}


@contextmanager
def _holding(space: Space, values: Mapping[str, Tensor]) -> Iterator[None]:
    """The weights are these meanwhile."""
    mine = [g.site.tensor for g in space if g.site is not None and g.name in values]
    new = [values[g.name] for g in space if g.site is not None and g.name in values]
    old = [tensor.detach().clone() for tensor in mine]
    try:
        for tensor, value in zip(mine, new, strict=True):
            tensor.data.copy_(value)
        yield
    finally:
        for tensor, value in zip(mine, old, strict=True):
            tensor.data.copy_(value)
