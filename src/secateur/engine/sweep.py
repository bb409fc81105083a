"""Which cells a comparison has: every sensible combination, as plain data."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from secateur.core import Clock, Recipe, RecipeError, Target, When, read_call, registry
from secateur.recovery import FineTune, ScratchB, ScratchE

from .cells import SMALL, dense_config
from .methods import adapted, recovery_from
from .scratch import check_scratch

Json = dict[str, Any]


def methods_from(given: Sequence[str | Mapping[str, Mapping[str, Any]]]) -> list[tuple[str, Json]]:
    """Ids and settings, checked: a wrong name or setting fails before any work."""
    chosen: list[tuple[str, Json]] = []
    for method in given:
        chosen += [read_call(method)] if isinstance(method, str) else [(k, dict(v)) for k, v in method.items()]
    if not chosen:
        raise RecipeError("there is no method", where="compare(methods=...)", mend="`secateur methods` lists them")
    for id, settings in chosen:
        registry.get(id).recipe(**settings)
    return chosen


def targets_from(sparsity: Sequence[float | None] | float | None) -> list[float | None]:
    """The targets, checked; None where a structure implies its own."""
    targets = list(sparsity) if isinstance(sparsity, Sequence) else [sparsity]
    for target in targets:
        if target is not None:
            Target(target)
    return targets or [None]


def seeds_from(seeds: int | Sequence[int]) -> list[int]:
    """The seeds: how many, or which."""
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(dict.fromkeys(seeds))
    if not chosen:
        raise RecipeError("there is no seed", where="compare(seeds=...)", mend="1 or more")
    return chosen


def scratch_from(given: Sequence[str]) -> list[str]:
    """Recoveries of the names that `scratch` takes: "e", "b", with settings if need be, and "uniform".

    Raises:
        RecipeError: another name.
    """
    names = {"e": "scratch-e", "b": "scratch-b", "uniform": "scratch-b(architecture=uniform)"}
    found = []
    for text in given:
        name, bracket, settings = text.partition("(")
        if name not in names or (bracket and name == "uniform"):
            known = "e, b, uniform; or e.g. b(flops_model=ideal)"
            raise RecipeError(f"there is no training from scratch {text!r}", where="compare(scratch=...)", mend=known)
        found.append(names[name] + bracket + settings)
    return found


def contenders(
    methods: Sequence[tuple[str, Json]],
    targets: Sequence[float | None],
    recoveries: Sequence[str],
    pattern: str | None,
    scratch: Sequence[str] = (),
) -> tuple[list[Json], list[Json]]:
    """Every combination that makes sense, without its seed; and the others, with the reason.

    Args:
        scratch: recoveries that train from scratch what each method leaves. Methods that prune while they train are
            fine-tuned before that, as otherwise they would find nothing.
    """
    if not recoveries:
        raise RecipeError("there is no recovery", where="compare(recoveries=...)", mend='"fine-tune", or "none"')
    for recovery in (*recoveries, *scratch):
        _check_recovery(recovery)
    sensible: list[Json] = []
    left_out: list[Json] = []
    for (id, settings), recovery in product(methods, (*recoveries, *scratch)):
        reason = _reason_against(id, settings, recovery, pattern, targets)
        if reason is not None and recovery in scratch:
            recovery = f"fine-tune+{recovery}"
            reason = _reason_against(id, settings, recovery, pattern, targets)
        if reason is not None:
            left_out.append({"method": id, "recovery": recovery, "reason": reason})
            continue
        same = {"method": id, "settings": settings, "recovery": recovery}
        sensible += [{**same, "sparsity": target} for target in targets]
    if not sensible:
        first = left_out[0]
        raise RecipeError(
            f"nothing is left to compare: {first['method']} with {first['recovery']}: {first['reason']}",
            where="compare(recoveries=...)",
            mend='add "fine-tune", and heal=... above 0',
        )
    return sensible, left_out


def _check_recovery(text: str) -> None:
    parts = recovery_from(text)
    idle = [type(p).__name__ for p in parts if p.needs_training]
    if idle and not any(isinstance(p, FineTune | ScratchE | ScratchB) for p in parts):
        raise RecipeError(
            f"{idle[0]} acts on training steps, and nothing trains",
            where=f"recovery {text!r}",
            mend=f'write "fine-tune+{text}"',
        )


def _reason_against(
    id: str, settings: Json, recovery: str, pattern: str | None, targets: Sequence[float | None]
) -> str | None:
    """Why a method cannot go with a recovery; None where it can."""
    handle = registry.get(id)
    recipe = handle.recipe(**settings)
    if not isinstance(recipe, Recipe):
        return None
    try:
        check_scratch(adapted(recipe, pattern, None, recovery))
    except RecipeError as error:
        return str(error).partition("\n")[0]
    if any(isinstance(part, FineTune) for part in recovery_from(recovery)):
        return None
    if handle.entry.when == When.DURING:
        return "it prunes while it trains, and this recovery does not train"
    schedule = adapted(recipe, pattern, None, recovery).schedule
    try:
        for target in (Target(t) for t in targets if t is not None and schedule is not None):
            assert schedule is not None
            schedule.check(Clock(0, 0, schedule.legs(target)), target)
    except RecipeError as error:
        return str(error).partition("\n")[0]
    return None


def cell_configs(
    shared: Json, cells: Sequence[Json], seeds: Sequence[int], small: Sequence[float | None], narrow: Sequence[str]
) -> list[Json]:
    """Every cell: the dense ones first, because all others start from them, seeds innermost.

    Args:
        shared: what all have in common.
        small: the sparsities to which a small dense model of equal size is wanted.
        narrow: the name of the factory of small models and a hash of its file; empty for built-in ones.
    """
    baselines: list[Json] = [
        {"method": SMALL, "settings": {}, "sparsity": s, "recovery": None, "narrow": list(narrow)} for s in small
    ]
    all_cells = [{**shared, **cell, "seed": seed} for cell in (*baselines, *cells) for seed in seeds]
    return [dense_config({**all_cells[0], "seed": seed}) for seed in seeds] + all_cells
