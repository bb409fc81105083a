"""What a model offers for removal in one piece, as rows: families, what is frozen and why, what has no rule."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from secateur.core import RecipeError, device_of, to_device
from secateur.graph import Coupling, Family, couple, strands_of


@dataclass(frozen=True)
class MemberRow:
    """One dimension of a tensor in which every unit of a family has positions."""

    tensor: str
    dim: int
    positions: int
    roles: tuple[str, ...]


@dataclass(frozen=True)
class FamilyRow:
    """One family; `params` and `macs` are what the model loses with a single unit, its last.

    Attributes:
        lanes: in how many parts of the model, such as groups of a convolution, as many units go, each part's own.
    """

    name: str
    kind: str
    units: int
    tag: str
    params: int
    macs: int
    lanes: int
    members: tuple[MemberRow, ...]


@dataclass(frozen=True)
class FrozenRow:
    """What stays for one reason: how many positions, and in which dimensions of which tensors."""

    why: str
    positions: int
    places: tuple[str, ...]


@dataclass(frozen=True)
class Families:
    """What may go in one piece, and what may not.

    Attributes:
        found_on: the rung of the ladder that recorded the model: "fake tensors" or "real tensors".
        macs: of the example; params: of the model.
        unknown: modules by operation without a rule; what these touch is frozen.
    """

    found_on: str
    params: int
    macs: int
    families: tuple[FamilyRow, ...]
    frozen: tuple[FrozenRow, ...]
    unknown: dict[str, tuple[str, ...]]


def families_of(model: nn.Module, example: Any, call: Callable[[nn.Module, Any], Any]) -> Families:
    """The families of a model, found by running it on an example.

    Args:
        example: a batch as the task gives it, or the inputs alone.
        call: how the example becomes a model call, as in `Task`.

    Raises:
        RecipeError: there is no example.
        SubjectError: the model does not run on the example.
    """
    if example is None:
        raise RecipeError(
            "there is no example to run the model on, and coupled units are found by running it",
            where=type(model).__name__,
            mend="give a shape, --input 1,3,32,32 (tokens: --input 1,16), or a task, --task builtin:digits",
        )
    example = to_device(example, device_of(model))
    coupling = couple(model, lambda m: call(m, example))
    parameters = {name for name, _ in model.named_parameters()}
    macs, strands = coupling.macs(), strands_of(coupling)
    lanes = {name: found.count for name, found in strands.items()}
    return Families(
        found_on=coupling.graph.rung,
        params=sum(p.numel() for p in model.parameters()),
        macs=macs,
        families=tuple(_family(f, coupling, parameters, macs, lanes.get(f.name, 1)) for f in coupling.families),
        frozen=_frozen(coupling),
        unknown={op: tuple(dict.fromkeys(modules)) for op, modules in coupling.unknown.items()},
    )


def _family(family: Family, coupling: Coupling, parameters: set[str], macs: int, lanes: int) -> FamilyRow:
    gone = np.zeros(coupling.flow.algebra.size, bool)
    gone[family.factors[-1]] = True
    members = tuple(
        MemberRow(m.name, m.dim, m.index.shape[1], tuple(sorted(role.value for role in m.roles)))
        for m in family.members
    )
    params = sum(count for name, count in coupling.lost(gone).items() if name in parameters)
    return FamilyRow(
        family.name, family.kind, family.size, family.tag.value, params, macs - coupling.macs(gone), lanes, members
    )


def _frozen(coupling: Coupling) -> tuple[FrozenRow, ...]:
    by_reason: dict[str, list[tuple[str, int]]] = {}
    for (value, dim), labels in coupling.flow.sites.items():
        place = f"{coupling.graph.values[value].name}, dimension {dim}"
        if place in coupling.frozen:
            stay = int(coupling.flow.algebra.stays_put(labels).sum())
            by_reason.setdefault(coupling.frozen[place], []).append((place, stay))
    return tuple(
        FrozenRow(why, sum(n for _, n in found), tuple(p for p, _ in found)) for why, found in by_reason.items()
    )
