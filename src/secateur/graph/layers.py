"""Which modules are the blocks of a model and which are sublayers of these; no name and no model family is known."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import nn

from .capture import Call, capture
from .residual import Streams, Unit

_LISTS = nn.Sequential | nn.ModuleList | nn.ModuleDict


@dataclass(frozen=True, eq=False)
class LayerUnits:
    """The units of a model.

    Attributes:
        streams: of the recorded pass.
        blocks, sublayers: lists of units by the container that holds the blocks.
        skipped: what looks like a block and cannot go, and why.
    """

    streams: Streams
    blocks: dict[str, list[Unit]] = field(default_factory=dict)
    sublayers: dict[str, list[Unit]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def containers(self) -> set[str]:
        """The paths of the modules that hold blocks."""
        return {_parent(unit.module) for units in self.blocks.values() for unit in units}


def layers_of(model: nn.Module, call: Call) -> LayerUnits:
    """The blocks of a model and their sublayers.

    Args:
        call: runs the model on an example, as `lambda model: model(x)`.

    Raises:
        SubjectError: the model does not run on the example.
    """
    streams = Streams(capture(model, call))
    modules = dict(model.named_modules())
    twice = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    found = LayerUnits(streams)
    residual: dict[str, Unit] = {}
    why: dict[str, str] = {}
    for path, module in modules.items():
        if not path or next(module.parameters(), None) is None or not streams.times(path):
            continue
        if streams.times(path) > 1 or twice[id(module)] > 1:
            why[path] = f"it is called {streams.times(path)} times" if streams.times(path) > 1 else "it has two names"
            continue
        unit = streams.residual(streams.calls[path])
        if isinstance(unit, Unit):
            residual[path] = unit
        else:
            why[path] = unit
    blocks = _blocks(residual, modules)
    alike = [*blocks, *_alike(blocks, modules)]
    for path in blocks:
        found.blocks.setdefault(_parent(path), []).append(residual[path])
    found.skipped.update({path: why[path] for path in alike if path in why})
    for path in alike:
        inner = _outermost(other for other in residual if other.startswith(f"{path}."))
        units = [residual[name] for name in inner]
        if path in residual:
            units += [u for u in streams.branches(residual[path], units) if u.module not in inner]
        units = [u for u in units if next(modules[u.module].parameters(), None) is not None]
        if units:
            found.sublayers.setdefault(_parent(path), []).extend(units)
    for units in found.sublayers.values():
        units.sort(key=lambda unit: unit.call.begin)
    return LayerUnits(streams, _together(found.blocks, modules), _together(found.sublayers, modules), found.skipped)


def _blocks(residual: Iterable[str], modules: dict[str, nn.Module]) -> list[str]:
    """The paths of blocks among residual modules, in the order of the model."""
    entries: dict[str, list[str]] = {}
    for path in residual:
        if isinstance(modules[_parent(path)], _LISTS):
            entries.setdefault(_parent(path), []).append(path)
    uniform = [p for paths in entries.values() if len({type(modules[p]) for p in paths}) == 1 for p in paths]
    chosen = _innermost(uniform)
    around = [*chosen, *_alike(chosen, modules)]  # blocks of the same list that stay hold sublayers, no blocks
    chosen = [p for p in chosen if not _in_any(p, around)]
    listed = [p for paths in entries.values() for p in paths if p not in uniform]
    for others in (listed, [p for p in residual if not isinstance(modules[_parent(p)], _LISTS)]):
        around = [*chosen, *_alike(chosen, modules)]
        apart = [p for p in others if not _in_any(p, around) and not any(c.startswith(f"{p}.") for c in chosen)]
        chosen += _innermost(apart)
    order = {path: place for place, path in enumerate(modules)}
    return sorted(chosen, key=order.__getitem__)


def _alike(chosen: Iterable[str], modules: dict[str, nn.Module]) -> list[str]:
    """Entries of the same lists and classes that were not chosen."""
    chosen = set(chosen)
    kinds = {(_parent(p), type(modules[p])) for p in chosen if isinstance(modules[_parent(p)], _LISTS)}
    return [p for p, m in modules.items() if p and (_parent(p), type(m)) in kinds and p not in chosen]


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _in_any(path: str, others: Iterable[str]) -> bool:
    return any(path.startswith(f"{other}.") for other in others)


def _innermost(paths: Iterable[str]) -> list[str]:
    paths = list(paths)
    return [p for p in paths if not any(other.startswith(f"{p}.") for other in paths)]


def _outermost(paths: Iterable[str]) -> list[str]:
    paths = list(paths)
    return [p for p in paths if not _in_any(p, paths)]


def _together(found: dict[str, list[Unit]], modules: dict[str, nn.Module]) -> dict[str, list[Unit]]:
    """Lone units of one class, each in a list of its own, in one group: alone they would never go."""
    merged: dict[str, list[Unit]] = {}
    for name, units in found.items():
        alone = len(units) == 1 and isinstance(modules[name], _LISTS)
        pattern = re.sub(r"\d+", "*", name) if alone else name
        merged.setdefault(pattern or type(modules[""]).__name__, []).extend(units)
    return merged
