"""Whole layers: residual blocks, and the sublayers in them. They are taken out: the model becomes shallower."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import (
    BudgetError,
    Choice,
    Group,
    Plan,
    RecipeError,
    Site,
    Space,
    Structure,
    SubjectError,
)
from secateur.graph import (
    LayerUnits,
    Removal,
    Unit,
    absent,
    forget,
    layers_of,
    names_by_tensor,
    otherwise,
    overheard,
    pinned,
    products,
    removal,
    shorten_,
    tracks_of,
)

from .channels import Patterns
from .matrices import weight_matrices
from .new_values import written
from .sight import Call, Sight, on, sight_of

KINDS = ("blocks", "sublayers")


@dataclass(frozen=True)
class Layers(Structure):
    """Residual blocks, whose output becomes their input, and sublayers, whose part of the sum becomes zero.

    They are found by running the model on an example: a block is a module that adds something to an argument.

    Attributes:
        include, exclude: shell patterns on the names of groups and modules.
        kinds: which kinds of units may go, of "blocks", "sublayers".
        floor: fewest units that stay in each group.
        verify: whether every cut is proven on the example before it counts; one that is not is undone.

    Raises:
        RecipeError: an unknown kind, or none; a negative floor.
    """

    include: Patterns = ("*",)
    exclude: Patterns = ()
    kinds: tuple[str, ...] = ("blocks",)
    floor: int = 1
    verify: bool = True

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown or not self.kinds:
            what = f"there is no kind {unknown[0]!r}" if unknown else "no kind is named"
            raise RecipeError(what, where="Layers(kinds=...)", mend=" or ".join(KINDS))
        if self.floor < 0:
            raise RecipeError(f"floor is {self.floor}", where="Layers(floor=...)", mend="0 or more")

    @property
    def cuts(self) -> bool:
        return True

    def seeing(self, call: Call | None) -> "Layers":
        made = replace(self)
        object.__setattr__(made, "_sight", None if call is None else Sight(call, layers_of))
        return made

    def find(self, subject: Any, example: Any = None) -> Space:
        """The groups of a model.

        Args:
            example: a batch, or the inputs alone; not needed where the engine gives one.

        Raises:
            SubjectError: no module; no example; it holds masks; it does not run on the example; it has no such layers.
        """
        seeing = self if example is None else self.seeing(on(example))
        found: LayerUnits = sight_of(seeing, subject).of(subject)
        offered, skipped = self._offered(subject, found)
        if not offered:
            raise _nothing_to_skip(subject, skipped)
        leaves = _leaves(subject)
        groups = [_group(subject, found, name, units, leaves, self.floor) for name, units in offered.items()]
        return Space(tuple(groups), skipped, _totals(subject, found, offered))

    def apply_(self, subject: nn.Module, choice: Choice) -> tuple[nn.Module, Plan]:
        """Take the units out, in place; optimizers drop their parameters at their next step.

        Raises:
            BudgetError: fewer would stay than the floor of a group.
        """
        sight = sight_of(self, subject)
        found: LayerUnits = sight.of(subject)
        offered, _ = self._offered(subject, found)
        gone = _gone(offered, choice.keep.masks)
        if not gone:
            return subject, Plan()
        for name, units in offered.items():
            stay = int(choice.keep[name].sum()) if name in choice.keep else len(units)
            if stay < min(self.floor, len(units)):
                raise BudgetError(
                    f"{stay} of {len(units)} units would stay, but {min(self.floor, len(units))} must",
                    where=f"group {name!r}",
                    mend="lower the sparsity, or Layers(floor=0)",
                )
        real = self.verify and not any(p.is_meta for p in subject.parameters())
        calls = (sight.call, otherwise(sight.call))
        with written(subject, choice.values):
            done = shorten_(subject, found, gone, calls, verify=real)
        forget(done.gone, subject)
        return subject, done.plan

    def _offered(self, subject: nn.Module, found: LayerUnits) -> tuple[dict[str, list[Unit]], dict[str, str]]:
        """The units by the names of their groups, and what is left out and why."""
        fixed = pinned(subject, tracks_of(subject, found.containers)) if "sublayers" in self.kinds else {}
        offered: dict[str, list[Unit]] = {}
        skipped = dict(found.skipped)
        for kind, lists in (("blocks", found.blocks), ("sublayers", found.sublayers)):
            for container, units in lists.items() if kind in self.kinds else ():
                name = container if kind == "blocks" else f"{container}/sublayers"
                for unit in units:
                    why = "" if self._takes(name, unit.module) else "excluded"
                    if kind == "sublayers":
                        held = (w for path, w in fixed.items() if f"{path}.".startswith(f"{unit.module}."))
                        why = why or next(held, "")
                    if why:
                        skipped[unit.module] = why
                    else:
                        offered.setdefault(name, []).append(unit)
        return offered, skipped

    def _takes(self, group: str, module: str) -> bool:
        names = (group, module)
        if any(fnmatch(name, p) for name in names for p in self.exclude):
            return False
        return any(fnmatch(name, p) for name in names for p in self.include)


def _nothing_to_skip(subject: nn.Module, skipped: Mapping[str, str]) -> SubjectError:
    some = "; ".join(f"{path}: {why}" for path, why in list(skipped.items())[:5])
    return SubjectError(
        "no layer can go: there is no residual block, a module whose output is its input plus something of that shape",
        where=type(subject).__name__ + (f" ({some})" if some else ""),
        mend='widen include= and kinds=, or cut channels out of it: structure="channels"',
    )


def _gone(offered: Mapping[str, list[Unit]], keep: Mapping[str, Tensor]) -> list[Unit]:
    return [
        unit
        for name, units in offered.items()
        if name in keep
        for unit, stays in zip(units, keep[name].reshape(-1).tolist(), strict=True)
        if not stays
    ]


def _group(
    model: nn.Module, found: LayerUnits, name: str, units: list[Unit], leaves: Mapping[str, Group], floor: int
) -> Group:
    """A group of units; those of unlike sizes have the mean of their costs, and scores read their matrices."""
    inside, tensors = [], []
    for unit in units:
        own = list(dict.fromkeys(leaf for path, leaf in leaves.items() if path.startswith(f"{unit.module}.")))
        inside.append(tuple(leaf for leaf in own if leaf.site is not None and leaf.site.tensor.dim() > 1) or tuple(own))
        tensors += [leaf.site.tensor for leaf in own if leaf.site is not None]
    costs = {
        "params": sum(t.numel() for t in tensors) / len(units),
        "bytes": sum(t.numel() * t.element_size() for t in tensors) / len(units),
    }
    kind = "sublayers" if name.endswith("/sublayers") else "blocks"
    classes = list(dict.fromkeys(type(model.get_submodule(unit.module)) for unit in units))
    branches = any(unit.zeros for unit in units)
    return Group(
        name,
        (len(units),),
        floor=min(floor, len(units)),
        costs=costs,
        inside=tuple(inside),
        names=tuple(unit.module for unit in units),
        without=tuple(partial(absent, streams=found.streams, unit=unit) for unit in units),
        within=tuple(_block_of(unit.module, found.containers) for unit in units),
        passing=() if branches else tuple(partial(overheard, unit=unit) for unit in units),
        labels=torch.tensor([classes.index(type(model.get_submodule(unit.module))) for unit in units]),
        kind=kind,
    )


def _block_of(path: str, containers: Iterable[str]) -> str:
    """The path of the block that a unit lies in or is."""
    around = [c for c in containers if path.startswith(f"{c}." if c else "")]
    within = max(around, key=len) + "." if any(around) else ""
    return within + path[len(within) :].partition(".")[0]


def _leaves(model: nn.Module) -> dict[str, Group]:
    """Every parameter once, as a matrix where it is one, by each of its names."""
    matrices = {m.name: m for m in weight_matrices(model, ("*",), (), embeddings=True)[0]}
    found: dict[str, Group] = {}
    for tensor, names in names_by_tensor(model):
        matrix = matrices.get(names[0])
        layout = (matrix.axes, matrix.rows) if matrix is not None else ((), 1)
        site = Site(names[0], tensor, *layout) if tensor.dim() else Site(names[0], tensor, (), 0)
        leaf = Group(names[0], site.shape, site=site, kind="slices")
        found |= dict.fromkeys(names, leaf)
    return found


def _totals(model: nn.Module, found: LayerUnits, offered: Mapping[str, list[Unit]]) -> dict[str, Any]:
    """Costs in closed form: what does not run costs nothing, and tensors go when all their names do."""
    tensors = names_by_tensor(model)

    def what_goes(keep: Mapping[str, Tensor]) -> Removal:
        return removal(found.streams, _gone(offered, keep))

    def held(keep: Mapping[str, Tensor]) -> Iterable[Tensor]:
        gone = what_goes(keep)
        return (tensor for tensor, names in tensors if not all(map(gone.holds, names)))

    by_node = cache(lambda: products(found.streams.graph))

    def macs(keep: Mapping[str, Tensor]) -> float:
        gone = what_goes(keep)
        return float(sum(count for node, count in by_node() if not gone.covers(node)))

    return {
        "macs": macs,
        "params": lambda keep: float(sum(t.numel() for t in held(keep))),
        "bytes": lambda keep: float(sum(t.numel() * t.element_size() for t in held(keep))),
    }
