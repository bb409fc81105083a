"""Blocks that stay whole because they stand at an end of their run: the first and the last ones matter most."""

from collections.abc import Sequence

from torch import nn

from secateur.core import SubjectError, count
from secateur.core.blocks import Place, place_of


def whole_blocks(model: nn.Module, ends: Sequence[int | float]) -> dict[str, str]:
    """By path, why a block stays whole: it is one of the first or the last in its run.

    Args:
        ends: how many of the first and of the last; a float is a share of the run, rounded half up.

    Raises:
        SubjectError: no block of a run is between its ends.
    """
    if not any(ends):
        return {}
    modules = dict(model.named_modules())
    places = {name: place for name in modules if (place := _own_place(modules, name)) is not None}
    found = {}
    for name, place in places.items():
        first, last = (count(end, place.length) if isinstance(end, float) else end for end in ends)
        if first + last >= place.length:
            raise SubjectError(
                f"the first {first} and the last {last} of {place.length} blocks stay whole, so none is left to prune",
                where=f"{type(model).__name__}, {place.run!r}",
                mend=f"ends that add up to {place.length - 1} at most",
            )
        if place.number < first:
            found[name] = f"one of the first {first} of {place.length} blocks, which stay whole"
        elif place.number >= place.length - last:
            found[name] = f"one of the last {last} of {place.length} blocks, which stay whole"
    return found


def _own_place(modules: dict[str, nn.Module], name: str) -> Place | None:
    """The place of a block in its run; None for any other module, those in a block too."""
    place = place_of(modules, name)
    return place if place is not None and place.run == name.rpartition(".")[0] else None
