"""Families: factors that lie at the same sites. What a structure offers for removal, and what removing it means."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import combinations
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .flow import Flow, Role
from .ir import refs
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
        kind: "channels" of convolutions, "groups" of them, "heads", "kv-groups" of heads, "head-dims",
            "experts", or "hidden".
        factors: of each unit.
        module: path of the module that makes it.
        floor: how many must stay.
        multiple: of which the number that stays must be a multiple.
    """

    name: str
    kind: str
    tag: Tag
    members: tuple[Member, ...]
    factors: NDArray[np.int32]
    module: str
    floor: int = 1
    multiple: int = 1

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
        self._last: tuple[Gone | None, dict[int, tuple[Labels, NDArray[np.bool_]]]] = None, {}
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
        found.flags.writeable = False
        return found

    def stays(self, labels: Dim, size: int, gone: Gone) -> NDArray[np.bool_]:
        """Which positions of a dimension stay."""
        if labels is None:
            return np.ones(size, bool)
        if gone.flags.writeable:
            return self._stays(labels, gone)
        if self._last[0] is not gone:
            self._last = gone, {}  # a proof asks several times for what goes, and then for something else
        known = self._last[1]
        if id(labels) not in known:
            known[id(labels)] = labels, self._stays(labels, gone)
        return known[id(labels)][1]

    def _stays(self, labels: Labels, gone: Gone) -> NDArray[np.bool_]:
        return np.asarray(~gone[self.flow.algebra.resolve(labels)].any(1), bool)

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

    def lost(self, gone: Gone) -> dict[str, int]:
        """How many elements each tensor loses."""
        stays: dict[str, dict[int, float]] = {}
        for name, dim, kept in self.sites(gone):
            stays.setdefault(name, {})[dim] = float(kept.mean())
        sizes = {v.name: prod(v.shape) for v in self.graph.values if v.name is not None}
        return {name: sizes[name] - round(sizes[name] * prod(dims.values())) for name, dims in stays.items()}

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
        real = names > 0
        pattern[names[real]] += mix[k] * counts[real]
        width = max(labels.shape[1], 1)
        first[names[real]] = np.minimum(first[names[real]], base + where[real] // width)
        base += len(labels)
    factors = np.flatnonzero(first < np.iinfo(np.int64).max)
    factors = factors[np.argsort(first[factors], kind="stable")]
    _, kinds = np.unique(pattern[factors], return_inverse=True)
    family_of = np.full(flow.algebra.size, -1)
    unit_of = np.zeros(flow.algebra.size, np.int64)
    groups = [factors[kinds == k].astype(np.int32) for k in dict.fromkeys(kinds.tolist())]
    groups = _apart(groups, resolved.values(), flow.algebra.size)
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


def _apart(groups: list[Labels], sites: Iterable[Labels], size: int) -> list[Labels]:
    """Groups of factors without those that share positions: four heads of four features are two families."""
    group_of = np.full(size, -1)
    for k, group in enumerate(groups):
        group_of[group] = k
    meets: dict[int, set[tuple[int, int]]] = {}
    for labels in sites:
        kinds = np.where(labels > 0, group_of[labels], -1)
        for i, j in combinations(range(labels.shape[1]), 2):
            for row in np.flatnonzero((kinds[:, i] == kinds[:, j]) & (kinds[:, i] >= 0)):
                pair = int(labels[row, i]), int(labels[row, j])
                meets.setdefault(int(kinds[row, i]), set()).update((pair, pair[::-1]))
    found = []
    for k, group in enumerate(groups):
        left = group.tolist()
        while left and k in meets:
            part, queue = [left[0]], [left[0]]
            left = left[1:]
            while queue:
                factor = queue.pop()
                strangers = [other for other in left if (factor, other) not in meets[k]]
                left = [other for other in left if (factor, other) in meets[k]]
                part, queue = part + strangers, queue + strangers
            members = set(part)
            found.append(np.array([f for f in group.tolist() if f in members], np.int32))
        if k not in meets:
            found.append(group)
    return found


def _named(found: list[tuple[Labels, list[Member]]], flow: Flow) -> Iterable[Family]:
    kinds = _kinds(flow)
    tags, convolutions = _tags(flow), _convolutions(flow)
    taken: dict[str, int] = {}
    met = {(flow.graph.values[value].name, dim) for value, dim in flow.notes.roles}
    floors = _floors(flow)
    found = [(f, members) for f, members in found if len(f) > floors.get(int(f[0]), 1)]
    # a lone unit cannot go; what no operation meets are places of a table beyond those that the example used
    found = [(f, members) for f, members in found if len(f) > 1 and any((m.name, m.dim) in met for m in members)]
    shared = _shared_heads(found, kinds)
    for number, (factors, members) in enumerate(found):
        ordered = sorted(members, key=lambda m: Role.PRODUCER not in m.roles)
        name = ordered[0].name
        kind = kinds.get(int(factors[0]), "")
        tag = max((tags.get(f, Tag.EXACT) for f in factors[:1].tolist()), key=list(Tag).index)
        module = name.partition(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]
        kind = "kv-groups" if number in shared else kind or ("channels" if name in convolutions else "hidden")
        label = f"{module or name}" + ("" if kind in ("channels", "hidden") else f"/{kind}")
        taken[label] = taken.get(label, 0) + 1
        unique = label if taken[label] == 1 else f"{label}#{taken[label]}"
        floor, multiple = floors.get(int(factors[0]), 1), _multiple(flow, members, len(factors))
        yield Family(unique, kind, tag, tuple(members), factors, module, floor, multiple)


_LINE = 16
"""Bytes that rows of a batched weight are made of."""


def _multiple(flow: Flow, members: Iterable[Member], size: int) -> int:
    """In what numbers the units of a family stay: rows of the weights of experts may have to be aligned."""
    values = flow.graph.values
    batched = {values[v].name: values[v].dtype for v in flow.notes.batched if flow.aligned}
    each = 1
    for m in members:
        dtype = batched.get(m.name)
        if dtype is not None and m.dim > 0:
            each = max(_LINE // dtype.itemsize // m.index.shape[1], each)
    return each if size % each == 0 else 1


def _floors(flow: Flow) -> dict[int, int]:
    """How many units of a factor's family must stay: as many as are chosen among them by rank."""
    found: dict[int, int] = {}
    for labels, count in flow.notes.chosen:
        for factor in np.unique(flow.algebra.resolve(labels)).tolist():
            found[factor] = max(count, found.get(factor, 1))
    return found


def _shared_heads(found: list[tuple[Labels, list[Member]]], kinds: Mapping[int, str]) -> set[int]:
    """Which families of heads are those of keys and values that several query heads share."""
    sites: dict[tuple[str, int], list[int]] = {}
    for number, (factors, members) in enumerate(found):
        if kinds.get(int(factors[0])) == "heads":
            for m in members:
                sites.setdefault((m.name, m.dim), []).append(number)
    together = {tuple(numbers) for numbers in sites.values() if len(numbers) == 2}
    # units of both hold all that is of queries, and those of the one what is of keys and values too
    held = {n: sum(m.index.numel() for m in found[n][1]) for n in {n for pair in together for n in pair}}
    return {max(pair, key=held.__getitem__) for pair in together if held[pair[0]] != held[pair[1]]}


def _convolutions(flow: Flow) -> set[str | None]:
    """Names of the weights of convolutions."""
    nodes = [node for node in flow.graph.nodes if node.op in ("conv", "conv_transpose")]
    weights = [flow.origin(value, 0)[0] for node in nodes for value in refs(node.args[1:2])]
    return {flow.graph.values[value].name for value in weights if value is not None}


def _kinds(flow: Flow) -> dict[int, str]:
    notes = flow.notes
    found: dict[int, str] = {}
    dims = (*notes.contracted, *notes.values)
    chosen = [labels for labels, _ in notes.chosen]
    for kind, arrays in (("groups", notes.groups), ("head-dims", dims), ("heads", notes.heads), ("experts", chosen)):
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
