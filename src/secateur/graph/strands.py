"""Strands: units that consist of interchangeable parts, one in each unit of another family.

A grouped convolution reads one channel of every group at each of its places, so as many channels of each group must
stay, but which ones is free: within a group they can change places, if everything that makes, carries and reads them
changes with them. The same holds for the features of heads, for the query heads that share a key, and for the
channels of a group norm.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .coupling import Coupling, Member
from .flow import tensors
from .ir import Node
from .labels import Dim, Labels

Units = NDArray[np.int64]


@dataclass(frozen=True)
class Across:
    """Lanes that another dimension of the tensor tells apart.

    Attributes:
        dim: which one; its positions fall into as many equal runs as there are lanes.
        runs: the number of the run of each lane.
    """

    dim: int
    runs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Place:
    """Where the strands of a family lie along one dimension of a tensor.

    Attributes:
        index: positions of each strand, `[lanes, units, positions]`.
        across: what tells lanes apart, where positions of the member's own dimension do not.
    """

    index: Tensor
    across: Across | None = None

    @property
    def flat(self) -> Tensor:
        """Positions of each unit, lane after lane, `[units, positions]`; numbers of position and run, where across."""
        runs = 1 if self.across is None else len(self.across.runs)
        run = torch.zeros(len(self.index)) if self.across is None else torch.tensor(self.across.runs)
        return (self.index * runs + run.long()[:, None, None]).transpose(0, 1).flatten(1)


@dataclass(frozen=True, eq=False)
class Strands:
    """How the units of a family fall apart into lanes.

    Attributes:
        of: name of the family whose units are the lanes.
        count: of the lanes.
        places: of the family's members, in their order.
    """

    of: str
    count: int
    places: tuple[Place, ...]


def strands_of(coupling: Coupling) -> dict[str, Strands]:
    """Families whose units have strands, by name; within a lane, any order of them computes the same function.

    That is so where wherever a unit lies, in parameters and in every value of the pass, each of its positions belongs
    to one unit of the other family: by the position itself (row 7 of head 2), or by another dimension of the tensor
    (the weights that make group 2). And nothing may add up or compare lanes while units still lie in other dimensions.
    """
    known = _Known(coupling)
    found = {}
    for number, family in enumerate(coupling.families):
        lanes: set[int] | None = None
        for dims in known.of(number):
            lanes = known.families_in(dims) - {number} if lanes is None else lanes
            lanes = {lane for lane in lanes if known.told(dims, number, lane) is not None}
            if not lanes:
                break
        lanes = {lane for lane in lanes or () if not known.mixes(number, lane)}
        for lane in sorted(lanes, key=lambda k: -coupling.families[k].size):
            places = _places(known, number, lane)
            if places is not None:
                other = coupling.families[lane]
                found[family.name] = Strands(other.name, other.size, places)
                break
    return found


class _Known:
    """Which units of which families lie where, of every value of the pass."""

    def __init__(self, coupling: Coupling) -> None:
        self.flow, self.families = coupling.flow, coupling.families
        algebra = coupling.flow.algebra
        self.family = np.full(algebra.size, -1)
        self.unit: Units = np.zeros(algebra.size, np.int64)
        for number, family in enumerate(coupling.families):
            self.family[family.factors] = number
            self.unit[family.factors] = np.arange(family.size)
        self._held: dict[int, tuple[Labels, frozenset[int]]] = {}
        values = coupling.graph.values
        self.parameters = {value.name: number for number, value in enumerate(values) if value.name is not None}
        sites = {value for value, _ in self.flow.sites}
        self._sites = [self.all(value) for value in sites]
        self._made = [self.all(value) for value in range(len(values)) if value not in sites]

    def all(self, value: int) -> list[Dim]:
        """The labels of all dimensions of a value."""
        return [None if d is None else self.flow.algebra.resolve(d) for d in self.flow.all(value)]

    def held(self, labels: Dim) -> frozenset[int]:
        """The families that lie in a dimension."""
        if labels is None:
            return frozenset()
        if id(labels) not in self._held:
            self._held[id(labels)] = labels, frozenset(self.family[np.unique(labels[labels > 0])].tolist())
        return self._held[id(labels)][1]

    def of(self, number: int) -> Iterator[Sequence[Dim]]:
        """The dimensions of every value in which a family lies, parameters first."""
        return (dims for dims in chain(self._sites, self._made) if any(number in self.held(d) for d in dims))

    def families_in(self, dims: Sequence[Dim]) -> set[int]:
        """The families that lie in any of these dimensions."""
        return set().union(*(self.held(d) for d in dims)) - {-1}

    def mixes(self, number: int, lane: int) -> bool:
        """Whether an operation runs over lanes in which units of the family lie side by side."""
        notes, graph = self.flow.notes, self.flow.graph
        for reads in notes.consumed.values():
            for value, dim in reads:
                dims = self.all(value)
                if lane in self.held(dims[dim]) and number not in self.held(dims[dim]) and self._lies_in(number, dims):
                    return True
        for node in notes.statistics:
            for value in tensors(graph.nodes[node]):
                dims = self.all(value)
                if self._lies_in(number, dims) and not self._apart(graph.nodes[node], dims, number, lane):
                    return True
        return any(self._lies_in(number, self.all(v)) for v, _, _ in notes.normed)

    def _lies_in(self, number: int, dims: Sequence[Dim]) -> bool:
        return any(number in self.held(d) for d in dims)

    def _apart(self, node: Node, dims: Sequence[Dim], number: int, lane: int) -> bool:
        """Whether a statistic gives the same for any order within lanes: it is over all of them, or over one each."""
        telling = self.told(dims, number, lane)
        if telling is None or number not in self.held(dims[telling]):
            return False
        if node.op != "group_norm":
            return True
        runs = self.units(dims[telling], lane).reshape(node.args[1], -1)
        return bool((runs == runs[:, :1]).all())

    def told(self, dims: Sequence[Dim], number: int, lane: int) -> int | None:
        """The dimension that tells which lane a position of the family is in; None where that is not told, or twice."""
        mine = [d for d, labels in enumerate(dims) if number in self.held(labels)]
        if len(mine) != 1:
            return None
        telling = [d for d, labels in enumerate(dims) if lane in self.held(labels)]
        if len(telling) != 1:
            return None
        labels = dims[telling[0]]
        assert labels is not None
        here = labels if telling != mine else labels[(self.family[labels] == number).any(1)]
        return telling[0] if ((self.family[here] == lane).sum(1) == 1).all() else None

    def units(self, labels: Dim, number: int) -> Units:
        """The unit of a family at each position; -1 where none is."""
        assert labels is not None
        mine = self.family[labels] == number
        return np.where(mine.any(1), np.where(mine, self.unit[labels], 0).max(1), -1)


def _places(known: _Known, number: int, lane: int) -> tuple[Place, ...] | None:
    """Where the strands lie in every member; None where they are not interchangeable in one."""
    families = known.families
    shape = families[lane].size, families[number].size
    found = []
    for member in families[number].members:
        dims = known.all(known.parameters[member.name])
        telling = known.told(dims, number, lane)
        assert telling is not None
        if telling == member.dim:
            place = _within(known, dims[member.dim], number, lane, shape)
        else:
            place = _across(member, telling, known.units(dims[telling], lane), shape)
        if place is None:
            return None
        found.append(place)
    return tuple(found)


def _within(known: _Known, labels: Dim, number: int, lane: int, shape: tuple[int, int]) -> Place | None:
    units, lanes = known.units(labels, number), known.units(labels, lane)
    held = np.flatnonzero(units >= 0)
    times = np.bincount(lanes[held] * shape[1] + units[held], minlength=shape[0] * shape[1])
    if not (times == times[0]).all():
        return None
    index = held[np.lexsort((held, units[held], lanes[held]))].reshape(*shape, -1)
    return Place(torch.from_numpy(index)) if _alike(index) else None


def _across(member: Member, dim: int, lanes: Units, shape: tuple[int, int]) -> Place | None:
    if len(lanes) % shape[0] or not _alike(member.index.numpy()[None]):
        return None
    runs = lanes.reshape(shape[0], -1)
    if not (runs == runs[:, :1]).all() or len(set(runs[:, 0].tolist())) != shape[0]:
        return None
    run_of = tuple(np.argsort(runs[:, 0]).tolist())
    return Place(member.index.expand(shape[0], -1, -1), Across(dim, run_of))


def _alike(index: Units) -> bool:
    """Whether the positions of all units of a lane lie in the same way: then exchanging them exchanges units."""
    apart = index - index[:, :, :1]
    return bool((apart == apart[:, :1]).all())
