"""Which slot of a cache of keys and values each layer writes to, when layers go: later ones move up.

transformers numbers them by an attribute of each attention, `layer_idx`; the first tells the length of the cache.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import nn

from secateur.core.depth import NUMBERS, Skipped, config_of, layer_lists
from secateur.core.errors import SubjectError
from secateur.core.plan import Mend

Tracks = dict[tuple[str, str, str], list[tuple[str, int]]]
"""By list of blocks, path within a block, and attribute: the modules with a slot, as (path, slot)."""


def tracks_of(model: nn.Module, containers: Collection[str]) -> Tracks:
    """The modules that are numbered, which play the same part in the blocks of a list."""
    found: Tracks = {}
    for path, module in model.named_modules():
        if isinstance(module, Skipped):
            continue
        for name in NUMBERS:
            slot = vars(module).get(name)
            for container in containers if type(slot) is int else ():
                if path.startswith(f"{container}." if container else ""):
                    within = path[len(container) :].lstrip(".").partition(".")[2]
                    found.setdefault((container, within, name), []).append((path, slot))
    return found


def pinned(model: nn.Module, tracks: Tracks) -> dict[str, str]:
    """Modules that cannot be skipped alone, and why: the first with a slot of each kind, where kinds differ."""
    found: dict[str, str] = {}
    for (container, *_), numbered in tracks.items():
        kinds = _kinds(model, container)
        seen: set[Any] = set()
        for path, slot in numbered:
            kind = kinds[slot] if slot < len(kinds) else None
            if kinds and kind not in seen:
                found[path] = f"the length of the cache is read from it, the first layer of {kind!r}"
            seen.add(kind)
    return found


def _kinds(model: nn.Module, container: str) -> list[Any]:
    """The kind of each layer, where they differ: full attention and a sliding window, for one."""
    held = model.get_submodule(container)
    config = config_of(model, container, len(list(held.children())))
    lists = layer_lists(config).values() if config is not None else ()
    return next((list(kinds) for kinds in lists if len(set(map(str, kinds))) > 1), [])


def slots_after(
    model: nn.Module, tracks: Tracks, skipped: Collection[str], dropped: Mapping[str, Collection[str]]
) -> Iterator[Mend]:
    """The new slots of what stays, under the old names.

    Args:
        skipped: paths of modules that will compute nothing.
        dropped: entries that will be deleted, by container.

    Raises:
        SubjectError: no layer that writes to the cache would stay.
    """
    for (container, within, name), numbered in tracks.items():
        entries = list(model.get_submodule(container)._modules)
        gone_entries = [place for place, entry in enumerate(entries) if entry in dropped.get(container, ())]
        prefix = f"{container}." if container else ""
        stay: list[tuple[str, int, int]] = []
        gone: list[tuple[str, int, int]] = []
        for path, slot in numbered:
            place = entries.index(path[len(prefix) :].partition(".")[0])
            if place not in gone_entries:
                silent = any(path == s or path.startswith(f"{s}.") for s in skipped)
                (gone if silent else stay).append((path, slot, place))
        if not stay:
            raise SubjectError(
                "no layer with a cache would stay",
                where=container,
                mend="keep one of its blocks or attentions: a lower sparsity, or exclude=[...]",
            )
        kinds = _kinds(model, container)
        firsts = {path for path in pinned(model, {(container, within, name): numbered}) if kinds}
        if not firsts.isdisjoint(path for path, _, _ in gone):
            raise SubjectError(
                "the first layer of a kind would leave a hole in the cache, whose length is read from it",
                where=container,
                mend=f"keep the layers of {', '.join(sorted(firsts))}: exclude=[...]",
            )
        holes = [] if kinds else [slot for _, slot, _ in gone]
        for path, slot, place in stay:
            new = slot - sum(g < place for g in gone_entries) - sum(hole < slot for hole in holes)
            if new != slot:
                yield Mend(path, name, new)
