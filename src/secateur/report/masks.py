"""How alike the masks of two methods are, from the bits on disk, and never more work than is stated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.core.progress import report

from .groups import Group
from .runs import Run

MOST_BYTES = 4 << 30
"""Bytes of masks that all pairs together may read; beyond it fewer seeds are compared."""
_MOST_HELD = 1 << 30


@dataclass(frozen=True)
class Matrix:
    """Overlap of all pairs at one sparsity and recovery, means over the seeds that both have.

    Attributes:
        groups: indices of the compared groups.
        iou, chance: by pair, symmetric; None where no seed is shared.
        seeds: how many seeds were compared, and `of` how many there are.
    """

    sparsity: float | None
    recovery: str
    groups: tuple[int, ...]
    iou: list[list[float | None]]
    chance: list[list[float | None]]
    seeds: int
    of: int


def matrices(groups: Sequence[Group], most: int = MOST_BYTES) -> tuple[list[Matrix], list[str]]:
    """Every matrix that has at least two lines, and notices of masks that could not be read.

    Args:
        most: bytes to read; see `MOST_BYTES`.
    """
    places: dict[tuple[int, float | None, str], list[int]] = {}
    for i, group in enumerate(groups):
        if any(r.masks for r in group.runs):
            places.setdefault((group.series.source, group.sparsity, group.recovery), []).append(i)
    wanted = {place: members for place, members in places.items() if len(members) > 1}
    notices: list[str] = []
    share = most // max(len(wanted), 1)
    found = []
    for done, ((_, sparsity, recovery), members) in enumerate(wanted.items()):
        report("comparing masks", done, len(wanted))
        matrix = _matrix([groups[i] for i in members], share, notices)
        if matrix is not None:
            iou, chance, seeds, of = matrix
            found.append(Matrix(sparsity, recovery, tuple(members), iou, chance, seeds, of))
    return found, notices


Table = list[list[float | None]]


def _matrix(groups: Sequence[Group], most: int, notices: list[str]) -> tuple[Table, Table, int, int] | None:
    from secateur.analysis.bits import packed_iou

    sizes = {name: size for g in groups for r in g.runs for name, size in r.masks.items()}
    each = sum(-(-size // 8) for size in sizes.values())
    seeds = sorted({r.seed for g in groups for r in g.runs if r.masks})
    pairs = len(groups) * (len(groups) - 1) // 2
    fit = min(len(seeds), most // max(1, each * pairs))
    if not fit or each * len(groups) > _MOST_HELD:
        notices.append(f"The masks of {len(groups)} methods have {each:,} bytes each: too many to compare here.")
        return None
    values: dict[tuple[int, int], list[Any]] = {}
    for seed in seeds[:fit]:
        packed = [_packed(next((r for r in g.runs if r.seed == seed), None), sizes, notices) for g in groups]
        for i, first in enumerate(packed):
            for j, second in enumerate(packed[:i]):
                if first is not None and second is not None:
                    values.setdefault((i, j), []).append(packed_iou(first, second))
    return _table(values, len(groups), "iou"), _table(values, len(groups), "chance"), fit, len(seeds)


def _table(values: dict[tuple[int, int], list[Any]], size: int, key: str) -> Table:
    table: Table = [[None] * size for _ in range(size)]
    for (i, j), found in values.items():
        table[i][j] = table[j][i] = sum(getattr(overlap, key) for overlap in found) / len(found)
    return table


def _packed(run: Run | None, sizes: dict[str, int], notices: list[str]) -> Any:
    """The masks of a run, mapped into memory; None where it has none, or they are damaged."""
    if run is None or run.folder is None or not run.masks:
        return None
    from safetensors import SafetensorError, safe_open

    from secateur.analysis.bits import pack

    name_of_file, key = run.masks_in
    file = run.folder / name_of_file
    try:
        if file.is_symlink() or not file.is_file():
            raise OSError("there is no such file")
        with safe_open(str(file), framework="np") as tensors:
            masks = {name: tensors.get_tensor(key.format(name)) for name in run.masks}
        return pack(masks, sizes)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        notices.append(f"{run.name}: {_short(file)}: its masks cannot be read: {error}.")
        return None


def _short(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"
