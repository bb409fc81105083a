"""Families: factors that lie at the same sites. What a structure offers for removal, and what removing it means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .flow import Flow, Role
from .labels import Dim, Labels

Gone = NDArray[np.bool_]
"""By factor: whether it is removed."""


class Tag(Enum):
    """How the smaller model relates to the dense one with zeros where a removed position would be read.

    EXACT: the same function. RESCALE: the same but for a mean or a root mean square, taken over those that stay.
    STATISTICS: a normalisation over those that stay; no equality with the dense model holds.
    """

    EXACT = "EXACT"
    RESCALE = "RESCALE"
    STATISTICS = "STATISTICS"


@dataclass(frozen=True, eq=False)
class Member:
    """Where the units of a family lie in one dimension of a tensor.

    Attributes:
        name: of the parameter or buffer.
        dim: which of its dimensions.
        index: positions of each unit, `[units, positions]`.
        roles: what that dimension does.
    """

    name: str
    dim: int
    index: Tensor
    roles: frozenset[Role]


@dataclass(frozen=True, eq=False)
class Family:
    """Units that have the same pattern of sites: the channels of a residual stream, the heads of an attention.

    Attributes:
        name: of the tensor that makes its positions first, with the kind where several families share it.
        kind: "channels", "heads", "head-dims", "hidden" or "width".
        factors: of each unit.
        module: path of the module that makes it.
    """

    name: str
    kind: str
    tag: Tag
    members: tuple[Member, ...]
    factors: NDArray[np.int32]
    module: str

    @property
    def size(self) -> int:
        """Number of units."""
        return len(self.factors)


class Coupling:
    """Families of a model, and what stays of every tensor when some of their units go.

    Attributes:
        unknown: operations without a rule, with the modules in which they ran.
    """

    def __init__(self, flow: Flow) -> None:
        self.flow, self.graph = flow, flow.graph
        self.families = tuple(_named(_families(flow), flow))
        self.unknown: dict[str, list[str]] = {}
        for node, op in flow.notes.unknown.items():
            self.unknown.setdefault(op, []).append(self.graph.nodes[node].module)

    @cached_property
    def frozen(self) -> dict[str, str]:
        """Why the positions of a site stay, by "tensor, dimension"."""
        return _reasons(self.flow)

    def __getitem__(self, name: str) -> Family:
        return next(f for f in self.families if f.name == name)

    def gone(self, keep: Mapping[str, Tensor]) -> Gone:
        """Which factors go, by a keep of `[units]` for each family that loses some."""
        found = np.zeros(self.flow.algebra.size, bool)
        for family in self.families:
            if family.name in keep:
                found[family.factors[~keep[family.name].detach().cpu().numpy().reshape(-1)]] = True
        return found

    def stays(self, labels: Dim, size: int, gone: Gone) -> NDArray[np.bool_]:
        """Which positions of a dimension stay."""
        if labels is None:
            return np.ones(size, bool)
        return ~gone[self.flow.algebra.resolve(labels)].any(1)

    def shape(self, value: int, gone: Gone) -> tuple[int, ...]:
        """The shape of a value afterwards."""
        shape = self.flow.shape(value)
        return tuple(int(self.stays(d, n, gone).sum()) for d, n in zip(self.flow.all(value), shape, strict=True))

    def sites(self, gone: Gone) -> Iterable[tuple[str, int, NDArray[np.bool_]]]:
        """(tensor, dimension, which positions stay) for every site that loses some."""
        for (value, dim), labels in self.flow.sites.items():
            stays = self.stays(labels, len(labels), gone)
            name = self.graph.values[value].name
            if not stays.all() and name is not None:
                yield name, dim, stays

    def macs(self, gone: Gone | None = None) -> int:
        """Multiply-accumulates of the recorded pass when these factors are gone: a polynomial of what stays."""
        total = 0
        counts: dict[int, int] = {}
        for fixed, dims in self._products:
            for key, labels in dims:
                if key not in counts:
                    counts[key] = len(labels) if gone is None else int((~gone[labels].any(1)).sum())
            total += fixed * prod(counts[key] for key, _ in dims)
        return total

    @cached_property
    def _products(self) -> list[tuple[int, list[tuple[int, Labels]]]]:
        """Every product as a constant and the labels of what can shrink; equal labels are counted once."""
        found = []
        keys: dict[bytes, int] = {}
        for _, factors in self.flow.notes.products:
            fixed, dims = 1, []
            for size, labels in factors:
                now = None if labels is None else self.flow.algebra.resolve(labels)
                if now is None or not now.shape[1]:
                    fixed *= size
                else:
                    key = keys.setdefault(now.tobytes() + bytes(str(now.shape), "ascii"), len(keys))
                    dims.append((key, now))
            found.append((fixed, dims))
        return found


def _families(flow: Flow) -> list[tuple[Labels, list[Member]]]:
    """Factors grouped by their pattern of sites, in the order in which sites were touched."""
    resolved = {site: flow.algebra.resolve(labels) for site, labels in flow.sites.items()}
    pattern = np.zeros(flow.algebra.size, np.int64)
    first = np.full(flow.algebra.size, np.iinfo(np.int64).max, np.int64)
    base = np.int64(0)
    mix = np.random.default_rng(1).integers(1, 1 << 62, len(resolved), dtype=np.int64)
    for k, labels in enumerate(resolved.values()):
        names, where, counts = np.unique(labels, return_index=True, return_counts=True)
        held = names > 0
        pattern[names[held]] += mix[k] * counts[held]
        width = max(labels.shape[1], 1)
        first[names[held]] = np.minimum(first[names[held]], base + where[held] // width)
        base += len(labels)
    factors = np.flatnonzero(first < np.iinfo(np.int64).max)
    factors = factors[np.argsort(first[factors], kind="stable")]
    _, kinds = np.unique(pattern[factors], return_inverse=True)
    family_of = np.full(flow.algebra.size, -1)
    unit_of = np.zeros(flow.algebra.size, np.int64)
    groups = [factors[kinds == k].astype(np.int32) for k in dict.fromkeys(kinds.tolist())]
    for k, group in enumerate(groups):
        family_of[group], unit_of[group] = k, np.arange(len(group))
    members: list[list[Member]] = [[] for _ in groups]
    for (value, dim), labels in resolved.items():
        rows, _ = np.nonzero(labels)
        held = labels[labels > 0]
        roles = frozenset(flow.notes.roles.get((value, dim), {Role.CARRIER}))
        name = flow.graph.values[value].name
        assert name is not None
        for k in np.unique(family_of[held]).tolist():
            mine = family_of[held] == k
            units, positions = unit_of[held[mine]], rows[mine]
            order = np.lexsort((positions, units))
            index = torch.from_numpy(positions[order].reshape(len(groups[k]), -1))
            members[k].append(Member(name, dim, index, roles))
    return list(zip(groups, members, strict=True))


def _named(found: list[tuple[Labels, list[Member]]], flow: Flow) -> Iterable[Family]:
    kinds = _kinds(flow)
    tags = _tags(flow)
    taken: dict[str, int] = {}
    for factors, members in found:
        if len(factors) < 2:
            continue  # a single unit cannot go: its positions would be none
        ordered = sorted(members, key=lambda m: Role.PRODUCER not in m.roles)
        name = ordered[0].name
        kind = kinds.get(int(factors[0]), "")
        tag = max((tags.get(f, Tag.EXACT) for f in factors[:1].tolist()), key=list(Tag).index)
        module = name.rpartition(".")[0]
        kind = kind or ("channels" if _is_conv(flow, name) else "hidden")
        label = f"{module or name}" + ("" if kind in ("channels", "hidden") else f"/{kind}")
        taken[label] = taken.get(label, 0) + 1
        unique = label if taken[label] == 1 else f"{label}#{taken[label]}"
        yield Family(unique, kind, tag, tuple(members), factors, module)


def _is_conv(flow: Flow, name: str) -> bool:
    return any(len(v.shape) > 2 for v in flow.graph.values if v.name == name)


def _kinds(flow: Flow) -> dict[int, str]:
    notes = flow.notes
    found: dict[int, str] = {}
    for kind, arrays in (("head-dims", (*notes.contracted, *notes.values)), ("heads", notes.heads)):
        for labels in arrays:
            for factor in np.unique(flow.algebra.resolve(labels)).tolist():
                found[factor] = kind
    return found


def _tags(flow: Flow) -> dict[int, Tag]:
    found: dict[int, Tag] = {}
    for number, op in flow.notes.statistics.items():
        tag = Tag.RESCALE if op in ("mean", "rms_norm") else Tag.STATISTICS
        node = flow.graph.nodes[number]
        for value in {r.value for r in node.args if hasattr(r, "value")}:
            for labels in flow.all(value):
                if labels is not None:
                    for factor in np.unique(flow.algebra.resolve(labels)).tolist():
                        found[factor] = max(tag, found.get(factor, tag), key=list(Tag).index)
    return found


def _reasons(flow: Flow) -> dict[str, str]:
    found: dict[str, str] = {}
    for (value, dim), labels in flow.sites.items():
        atoms = labels[flow.algebra.stays_put(labels)]
        if not len(atoms):
            continue
        last = flow.algebra.last_of(int(atoms[0, 0]))
        why, node = flow.reasons.get(last, ("it stays", -1))
        where = flow.graph.nodes[node].module if 0 <= node < len(flow.graph.nodes) else ""
        found[f"{flow.graph.values[value].name}, dimension {dim}"] = f"{why}" + (f" (in {where})" if where else "")
    return found
