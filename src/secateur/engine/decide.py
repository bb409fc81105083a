"""One decision: from scores and a target to a choice. The only place where budgets, selects and solvers meet."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from secateur.budgets import Uniform
from secateur.core import (
    Budget,
    BudgetError,
    Choice,
    Counts,
    Group,
    Keep,
    Kind,
    Move,
    NumericsError,
    Recipe,
    RecipeError,
    Route,
    Score,
    Space,
    Stats,
    Target,
    check_counts,
    fit_count,
)
from secateur.core.memory import give_back
from secateur.core.strands import apart, by_score, in_order, of_strands
from secateur.scores import of_units

from .fitting import Wanted, fitted, total_of

_log = logging.getLogger(__name__)
_Scores = Callable[[str], Tensor]


def decide(space: Space, recipe: Recipe, move: Move, stats: Stats, cost: Wanted | None = None) -> Choice:
    """What stays after this move, and new values where a solver repairs as it chooses.

    Args:
        space: on the live subject.
        stats: statistics, the current keep, and the seed of this move.
        cost: what the subject may cost, instead of the move's share of units.

    Raises:
        NumericsError: a score or a weight is not finite; names the group.
        BudgetError: the target cannot be met, or a group would lose all its units.
    """
    score = move.score or recipe.score
    if recipe.solve is not None and move.score is None:
        if cost is not None:
            raise RecipeError(
                f"{type(recipe.solve).__name__} gives no scores, and a target of {cost.name} is met by trying shares",
                where=f"{cost.name}=...",
                mend="give a sparsity",
            )
        choice = _solve(space, recipe, move, stats)
    else:
        assert score is not None
        admitted = _Admitted(space, score, stats, move.kind)
        scores: _Scores = admitted
        if cost is not None or _budget(recipe, move).needs_scores:
            stats = replace(stats, scores=admitted.all())
            scores = stats.scores.__getitem__
        if cost is None:
            choice = _select(space, recipe, move, stats, score, scores)
        elif getattr(_budget(recipe, move), "meets_cost", False):
            gone = max(1 - cost.most / total_of(space, cost.name)({}), 0.0)
            choice = _select(space, recipe, replace(move, sparsity=gone), stats, score, scores, cost.name)
        else:
            name = cost.name
            gone = stats.keep.sparsity if stats.keep is not None and move.kind is Kind.PRUNE else 0.0
            choice = fitted(
                space,
                cost,
                lambda share: _select(space, recipe, replace(move, sparsity=share), stats, score, scores, name),
                gone,
            )
    _check_collapse(choice.keep, space, recipe, move)
    return choice


def decided(space: Space, recipe: Recipe, move: Move, stats: Stats, cost: Wanted | None = None) -> Choice:
    """The decision, with the values by which the recipe's recoveries repair what it does."""
    space, orders = _in_order(space, recipe, move, stats)
    if orders and stats.trial is not None:
        trial = stats.trial
        stats = replace(stats, trial=lambda keep: trial(_of_strands(keep, orders)))
    choice = decide(space, recipe, move, stats, cost)
    repairs = [r.repaired(space, choice.keep, stats) for r in recipe.recovery]
    values = {n: v for part in (choice.values, *repairs) for n, v in part.items()}
    give_back()  # scores of one layer after another
    return replace(choice, keep=_of_strands(choice.keep, orders), values=values)


def _in_order(space: Space, recipe: Recipe, move: Move, stats: Stats) -> tuple[Space, dict[str, Tensor]]:
    """The space with the strands together that are to go together: the lowest of all lanes, the second lowest, ...

    A score that knows nothing of strands leaves units as they are, and so does a solver.
    """
    score = move.score or recipe.score
    orders = {}
    for group in space:
        if group.strands > 1 and score is not None and (recipe.solve is None or move.score is not None):
            parts = apart(group)
            values = of_units(score, parts)(parts, stats)
            if values.shape == parts.shape:
                _check_finite(group, values, type(score).__name__)
                orders[group.name] = by_score(values.reshape(group.strands, group.size))
    found = (in_order(g, orders[g.name]) if g.name in orders else g for g in space)
    return Space(tuple(found), space.skipped, space.totals), orders


def _of_strands(keep: Keep, orders: Mapping[str, Tensor]) -> Keep:
    return Keep({n: of_strands(mask, orders[n]) if n in orders else mask for n, mask in keep.masks.items()})


def allot(space: Space, recipe: Recipe, move: Move, stats: Stats) -> tuple[Space, Counts]:
    """How much stays where, before anything is chosen: the space, refined as the budget wants it, and the counts."""
    score = move.score or recipe.score
    space, _ = _in_order(space, recipe, move, stats)
    if _budget(recipe, move).needs_scores and score is not None:
        stats = replace(stats, scores=_Admitted(space, score, stats, move.kind).all())
    return _counts(space, recipe, move, stats)


def _budget(recipe: Recipe, move: Move) -> Budget:
    return move.budget or recipe.budget or Uniform()


def _counts(space: Space, recipe: Recipe, move: Move, stats: Stats, cost: str = "") -> tuple[Space, Counts]:
    if move.sparsity is None:
        if stats.keep is None:
            raise RecipeError(
                "the schedule keeps the counts as they are, but nothing was pruned yet",
                where="Move(sparsity=None)",
                mend="prune first",
            )
        return space, {g.name: int(stats.keep[g.name].sum()) // g.lanes for g in space}
    budget = _budget(recipe, move)
    refined, counts = budget.allocate(space, stats, Target(move.sparsity, cost))
    # budgets share units out one by one, and some structures give them only in multiples
    counts = {
        **counts,
        **{g.name: fit_count(g, counts[g.name]) for g in refined if g.multiple > 1 and g.name in counts},
    }
    check_counts(refined, counts, where=type(budget).__name__)
    return refined, counts


def scores_of(space: Space, score: Score, stats: Stats) -> dict[str, Tensor]:
    """One finite value for each unit, by group. Raises `NumericsError` for others, naming group and tensor."""
    return {group.name: _score(group, score, stats) for group in space if not group.runtime}


def _score(group: Group, score: Score, stats: Stats) -> Tensor:
    values = of_units(score, group)(group, stats)
    if values.shape != group.shape:
        raise RecipeError(
            f"{type(score).__name__} gave scores of shape {tuple(values.shape)} for units of {group.shape}",
            where=f"group {group.name!r}",
            mend="a score gives one value per unit",
        )
    values = values if values.dtype == torch.float64 else values.float()
    _check_finite(group, values, type(score).__name__)
    return values


def _check_finite(group: Group, values: Tensor, name: str) -> None:
    if torch.isfinite(values.sum()) or torch.isfinite(values).all():  # the sum is cheap, and finite unless it overflows
        return
    bad = int((~torch.isfinite(values)).sum())
    broken = [t.name for t in group.leaves if t.site is not None and not torch.isfinite(t.weight).all()]
    weights = broken and f"{name} on group {group.name!r}, tensor {broken[0]!r}"
    raise NumericsError(
        f"{bad} of {values.numel()} scores are NaN or infinite" + (": so are weights" if weights else ""),
        where=weights or f"{name} on group {group.name!r}",
        mend="repair or reload the weights" if weights else "check the data and the loss, or prune in float32",
    )


class _Admitted:
    """Scores by the name of a group, made when they are asked for; only those asked for last are held.

    What is gone scores -inf when pruning, what stays +inf when regrowing.
    """

    def __init__(self, space: Space, score: Score, stats: Stats, kind: Kind) -> None:
        self._space, self._score, self._stats, self._kind = space, score, stats, kind
        self._last: tuple[str, Tensor] | None = None

    def all(self) -> dict[str, Tensor]:
        """Of every group."""
        return {group.name: self._found(group.name) for group in self._space if not group.runtime}

    def __call__(self, name: str) -> Tensor:
        if self._last is None or self._last[0] != name:
            self._last = None
            self._last = name, self._found(name)
        return self._last[1]

    def _found(self, name: str) -> Tensor:
        scores, keep = _score(self._space[name], self._score, self._stats), self._stats.keep
        if keep is None or self._kind is Kind.REDRAW or name not in keep.masks:
            return scores
        stays = keep[name].to(scores.device)
        fixed = (~stays, -torch.inf) if self._kind is Kind.PRUNE else (stays, torch.inf)
        return scores.masked_fill(*fixed)


def _select(
    space: Space, recipe: Recipe, move: Move, stats: Stats, score: Score, scores_by: _Scores, cost: str = ""
) -> Choice:
    refined, counts = _counts(space, recipe, move, stats, cost)
    select = move.select or recipe.select
    masks, routes = {}, {}
    for group in refined:
        if group.runtime:
            routes[group.name] = Route(group, score, select, counts[group.name], stats.seed)
            continue
        scores = scores_by(group.parent or group.name)
        if group.index is not None:
            scores = scores.flatten()[group.index.to(scores.device)]
        lanes = scores.reshape(group.lanes, group.lane)
        chosen = select(lanes, counts[group.name], stats.rng(group, f"select {stats.step}"))
        masks[group.name] = chosen.reshape(group.shape)
    chosen_of = Space(tuple(g for g in space if not g.runtime), space.skipped, space.totals)
    keep = Keep(masks).coarsened(refined, chosen_of)
    return Choice(_monotone(keep, move.kind, stats.keep), routes=routes)


def _monotone(keep: Keep, kind: Kind, before: Keep | None) -> Keep:
    if before is None or kind is Kind.REDRAW:
        return keep
    if kind is Kind.REGROW:
        return Keep({n: m | before[n].to(m.device) if n in before else m for n, m in keep.masks.items()})
    sparser = [n for n, m in keep.masks.items() if n in before and bool((m & ~before[n].to(m.device)).any())]
    if sparser:
        _log.warning("%s is already sparser than the target and stays as it is", ", ".join(sparser))
    return Keep({n: m & before[n].to(m.device) if n in before else m for n, m in keep.masks.items()})


def _solve(space: Space, recipe: Recipe, move: Move, stats: Stats) -> Choice:
    assert recipe.solve is not None
    budget = _budget(recipe, move)
    if budget.needs_scores:
        raise RecipeError(
            f"the budget {type(budget).__name__} ranks scores, but {type(recipe.solve).__name__} gives none",
            where="Recipe(solve, budget)",
            mend="use Uniform, ER, ERK or Fixed",
        )
    refined, counts = _counts(space, recipe, move, stats)
    masks: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for group in refined:
        choice = recipe.solve(group, stats, counts[group.name])
        give_back()
        masks.update(choice.keep.masks)
        values.update(choice.values)
    return Choice(Keep(masks).coarsened(refined, space), values)


def _check_collapse(keep: Keep, space: Space, recipe: Recipe, move: Move) -> None:
    collapsed = [name for name in keep.collapsed if not space[name].inside]  # without whole layers, the rest still runs
    if collapsed and not recipe.allow_collapse:
        raise BudgetError(
            f"nothing would stay of {len(collapsed)} groups at a sparsity of {move.sparsity}",
            where=f"layer collapse in {', '.join(collapsed[:5])}",
            mend="lower the sparsity, use a floor (WithFloor, Lamp), or set allow_collapse=True",
        )
