"""Families as groups: where units lie as scores and recoveries see it, what they cost, and keeps of their strands."""

from collections.abc import Mapping
from math import lcm

import torch
from torch import Tensor, nn

from secateur.core import Group, Member, Site, SubjectError
from secateur.core.layers import Layer
from secateur.core.strands import as_units
from secateur.graph import Across, Coupling, Family, Strands, strands_of


def group_of(
    family: Family,
    strands: Strands | None,
    named: Mapping[str, Tensor],
    layers: Mapping[str, Layer],
    *,
    section: str = "",
    floor: int = 1,
    multiple: int = 1,
) -> Group:
    """The units of a family as a group.

    Args:
        strands: of the family, if its units have some.
        named: the subject's tensors, by name.
        layers: what stands around those that are weights of layers.
        section: the part of the subject that they lie in.
        floor, multiple: how many must stay, and of what the number that stays is a multiple, if there are as many.
    """
    members = members_of(family, strands, named, layers)
    if any(m.layer is not None and m.site.shape[1] > 1 and "producer" in m.roles for m in members):
        # the bias of a transposed convolution lies group after group, its weight does not: nobody is told both
        strands, members = None, members_of(family, None, named, layers)
    costs = {"params": 0.0, "bytes": 0.0}
    for m in members:
        if m.is_parameter:
            elements = m.index.shape[1] * m.tensor.numel() / m.group.size
            costs["params"] += elements
            costs["bytes"] += elements * m.tensor.element_size()
    multiple = lcm(multiple if family.size >= multiple else 1, family.multiple)
    whole = family.size % multiple
    least = max(floor, family.floor)
    return Group(
        family.name,
        (family.size,),
        floor=min(least if whole else -(-least // multiple) * multiple, family.size),
        multiple=1 if whole else multiple,
        costs=costs,
        members=members,
        kind=family.kind,
        strands=1 if strands is None else strands.count,
        lanes_of="" if strands is None else strands.of,
        section=section,
    )


def members_of(
    family: Family, strands: Strands | None, named: Mapping[str, Tensor], layers: Mapping[str, Layer]
) -> tuple[Member, ...]:
    """Where the units of a family lie, as scores and recoveries see it; with strands, lane after lane."""
    places = strands.places if strands is not None else (None,) * len(family.members)
    return tuple(
        Member(
            _rows(m.name, named[m.name], m.dim, place.across if place is not None else None),
            m.dim,
            m.index if place is None else place.flat,
            frozenset(r.value for r in m.roles),
            layers.get(m.name),
        )
        for m, place in zip(family.members, places, strict=True)
        if m.name in named
    )


def _rows(name: str, tensor: Tensor, dim: int, across: Across | None = None) -> Group:
    """The positions along one dimension of a tensor, as rows; across another, each row has a unit for each lane."""
    first = (dim,) if across is None else (dim, across.dim)
    axes = (*first, *(d for d in range(tensor.dim()) if d not in first))
    width = tensor.numel() // max(tensor.shape[dim], 1)
    site = Site(name, tensor, axes, 1, (1, width if across is None else width // len(across.runs)))
    return Group(name, site.shape, site=site, kind="slices")


def units_of(coupling: Coupling, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keeps of strands as keeps of units, in whichever order of strands they are that."""
    sizes = {f.name: f.size for f in coupling.families}
    return {name: as_units(name, sizes[name], mask)[0] for name, mask in masks.items() if name in sizes}


def turned(
    subject: nn.Module, coupling: Coupling, masks: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[tuple[Group, Tensor]]]:
    """A keep of whole units, and the groups whose strands have to be put in another order for that.

    Raises:
        SubjectError: a keep does not fit.
    """
    keep, turns = dict(masks), []
    laned = [f for f in coupling.families if f.name in masks and masks[f.name].numel() != f.size]
    strands = strands_of(coupling) if laned else {}
    named = dict((*subject.named_parameters(), *subject.named_buffers()))
    for family in laned:
        mine = strands.get(family.name)
        keep[family.name], order = as_units(
            family.name, family.size, masks[family.name], 1 if mine is None else mine.count
        )
        if mine is None or order is None:
            continue
        _check_lanes(family, mine, masks)
        if (order != torch.arange(family.size)).any():
            turns.append((group_of(family, mine, named, {}), order))
    return keep, turns


def _check_lanes(family: Family, strands: Strands, masks: Mapping[str, Tensor]) -> None:
    """Raise `SubjectError` where a lane loses all, and what it lies in stays."""
    empty = ~masks[family.name].reshape(strands.count, -1).any(1)
    of = masks.get(strands.of)
    stays = torch.ones(strands.count, dtype=torch.bool) if of is None or of.numel() != strands.count else of.reshape(-1)
    if (empty.cpu() & stays.cpu()).any():
        raise SubjectError(
            f"nothing would stay of lane {int((empty.cpu() & stays.cpu()).nonzero()[0])}, and that stays",
            where=f"group {family.name!r}",
            mend=f"keep as many in each lane, or remove units of {strands.of!r}",
        )
