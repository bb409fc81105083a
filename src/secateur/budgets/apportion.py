"""From real-valued shares to whole counts with an exact sum."""

from collections.abc import Mapping

from secateur.core import BudgetError, Counts, Space, Target, fit_count, kept_count


def to_stay(space: Space, target: Target) -> int:
    """How many units of the whole space stay."""
    return kept_count(target.sparsity, space.size)


def apportion(wanted: Mapping[str, float], space: Space, total: int, where: str) -> dict[str, int]:
    """Whole counts as near to the wanted ones as their exact sum allows (largest remainder).

    Args:
        wanted: units that should stay, per group, not necessarily whole.
        total: the sum that the counts must have; each lies between the group's floor and its size.

    Raises:
        BudgetError: floors or sizes leave no such counts.
    """
    low = sum(g.floor for g in space)
    if not low <= total <= space.size:
        raise BudgetError(
            f"{total} of {space.size} units would stay, but the floors alone keep {low}",
            where=where,
            mend=f"lower the sparsity to {1 - low / max(space.size, 1):.6g} at most, or lower the floors",
        )
    counts = {g.name: min(max(int(wanted[g.name]), g.floor), g.size) for g in space}
    order = sorted(space, key=lambda g: counts[g.name] - wanted[g.name])
    step = 1 if sum(counts.values()) < total else -1
    if step < 0:
        order.reverse()
    while (missing := total - sum(counts.values())) != 0:
        room = [g for g in order if (counts[g.name] < g.size if step > 0 else counts[g.name] > g.floor)]
        share = max(abs(missing) // len(room), 1)
        for group in room[: abs(missing)]:
            space_left = group.size - counts[group.name] if step > 0 else counts[group.name] - group.floor
            left = abs(total - sum(counts.values()))
            counts[group.name] += step * min(share, space_left, left)
    return counts


def from_densities(densities: Mapping[str, float], space: Space, target: Target, where: str) -> Counts:
    """Counts for a density per group: exact in sum, and per lane where the structure has lanes."""
    if all(g.lanes == 1 and g.exact is None for g in space):
        wanted = {g.name: densities[g.name] * g.size for g in space}
        return apportion(wanted, space, to_stay(space, target), where)
    return {g.name: fit_count(g, kept_count(1 - densities[g.name], g.lane)) for g in space}


def single_lanes(space: Space, where: str) -> None:
    """Raise `BudgetError` where groups have lanes, for budgets that compare units across groups."""
    laned = next((g for g in space if g.lanes > 1 and g.exact is None), None)
    if laned is not None:
        raise BudgetError(
            f"{laned.lanes} lanes must each keep the same count, so units of different groups cannot compete",
            where=f"{where}, group {laned.name!r}",
            mend="use a per-group budget such as Uniform or ERK",
        )
