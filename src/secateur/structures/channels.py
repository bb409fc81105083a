"""Coupled units: channels, heads, hidden units, widths. They are cut: the model becomes smaller and runs faster."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import (
    AddBias,
    Choice,
    Group,
    Member,
    Plan,
    RecipeError,
    Site,
    Space,
    Structure,
    SubjectError,
)
from secateur.core.layers import Layer
from secateur.core.strands import as_units, rearranged, turning
from secateur.graph import (
    Across,
    Coupling,
    Family,
    Strands,
    couple,
    cut_,
    follow,
    otherwise,
    proven_cut_,
    same_function,
    strands_of,
)

from .ends import whole_blocks
from .sections import section_of, sections_of
from .sight import Call, Sight, on, sight_of
from .surroundings import surroundings_of

Patterns = tuple[str, ...]
KINDS = ("channels", "hidden", "attention", "heads", "kv-groups", "head-dims", "groups", "experts")


@dataclass(frozen=True)
class Channels(Structure):
    """Units that lie in several tensors and can only go together, found by running the model on an example.

    Attributes:
        include, exclude: shell patterns on the names of groups, modules and tensors; a group goes with any of its own.
        kinds: which kinds of units may go, of "channels", "hidden", "heads", "kv-groups", "head-dims", "groups",
            "experts"; all where it is empty. "attention" is groups of heads where heads share keys, heads elsewhere.
        floor: fewest units that stay in each group.
        multiple: of which the number that stays is a multiple, where the group is large enough.
        verify: whether every cut is proven on the example before it counts; one that is not is undone.
        streams: whether units may go that are written to again after they were read, as in residual streams.
        lock: what must be alike in the groups of a grouped convolution, the heads of an attention, the queries of one
            key: "count", how many units each loses, whichever they are; "index", which ones, by their place.
        ends: how many blocks stay whole at the beginning and at the end of each run of blocks: whole numbers, or
            shares of the run, rounded half up (0.125 of 32 blocks are 4, of 8 blocks 1).

    Raises:
        RecipeError: an unknown kind or lock; nothing would have to stay; ends that are neither counts nor shares.
    """

    include: Patterns = ("*",)
    exclude: Patterns = ()
    kinds: tuple[str, ...] = ()
    floor: int = 1
    multiple: int = 1
    verify: bool = True
    streams: bool = True
    lock: str = "count"
    ends: tuple[int | float, int | float] = (0, 0)

    def __post_init__(self) -> None:
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise RecipeError(f"there is no kind {unknown[0]!r}", where="Channels(kinds=...)", mend=", ".join(KINDS))
        if self.floor < 1 or self.multiple < 1:
            raise RecipeError("a group must keep a unit", where="Channels(floor, multiple)", mend="1 or more")
        if self.lock not in ("count", "index"):
            raise RecipeError(f"there is no lock {self.lock!r}", where="Channels(lock=...)", mend="count, or index")
        if any(not end >= 0 or (isinstance(end, float) and end >= 1) for end in self.ends):
            what, mend = f"ends is {tuple(self.ends)}", "counts of blocks, or shares in [0, 1) such as 0.125"
            raise RecipeError(what, where="Channels(ends=...)", mend=mend)

    @property
    def cuts(self) -> bool:
        return True

    def seeing(self, call: Call | None) -> "Channels":
        made = replace(self)
        object.__setattr__(made, "_sight", None if call is None else Sight(call, couple))
        return made

    def find(self, subject: Any, example: Any = None) -> Space:
        """The groups of a model.

        Args:
            example: a batch, or the inputs alone; not needed where the engine gives one.

        Raises:
            SubjectError: no module; no example; it holds masks; it does not run on the example; all blocks are ends.
        """
        seeing = self if example is None else self.seeing(on(example))
        coupling: Coupling = sight_of(seeing, subject).of(subject)
        named = dict((*subject.named_parameters(), *subject.named_buffers()))
        layers = surroundings_of(coupling.flow, named)
        sections = sections_of(subject, coupling.flow)
        strands = strands_of(coupling) if self.lock == "count" else {}
        shared = {m.name for f in coupling.families if f.kind == "kv-groups" and f.size > 1 for m in f.members}
        whole = whole_blocks(subject, self.ends)
        left = {f.name: why for f in coupling.families if (why := self._left_out(f, shared, whole))}
        offered = [f for f in coupling.families if f.name not in left]
        groups = []
        for family in offered:
            mine = strands.get(family.name)
            members = _members(family, mine, named, layers)
            if any(m.layer is not None and m.site.shape[1] > 1 and "producer" in m.roles for m in members):
                # the bias of a transposed convolution lies group after group, its weight does not: nobody is told both
                mine, members = None, _members(family, None, named, layers)
            groups.append(_group(family, members, section_of(family, sections), mine, self))
        params = sum(p.numel() for p in subject.parameters())
        size = sum(p.numel() * p.element_size() for p in subject.parameters())
        parameters = {n for n, _ in subject.named_parameters()}

        def remaining(keep: Mapping[str, Tensor], total: float, weigh: Callable[[str], int]) -> float:
            gone = coupling.gone(_units(coupling, keep))
            return total - sum(weigh(n) * c for n, c in coupling.lost(gone).items() if n in parameters)

        totals = {
            "macs": lambda keep: float(coupling.macs(coupling.gone(_units(coupling, keep)))),
            "params": lambda keep: remaining(keep, params, lambda _: 1),
            "bytes": lambda keep: remaining(keep, size, lambda n: named[n].element_size()),
        }
        return Space(tuple(groups), {**coupling.frozen, **left}, totals)

    def apply_(self, subject: nn.Module, choice: Choice) -> tuple[nn.Module, Plan]:
        """Cut the units out, in place; optimizers that hold the parameters follow at their next step.

        New values are written before the cut, which is then proven against the model that has them. A value for the
        bias of a layer that has none gives it one. Where strands of a unit stay and others go, the tensors are put in
        an order in which whole units go; that changes nothing that the model computes, which is proven as well.

        Raises:
            SubjectError: a keep does not fit; the model cannot be cut so.
            NumericsError: the smaller model computes something else; it is as it was.
        """
        sight = sight_of(self, subject)
        masks = choice.keep.masks
        if all(bool(masks[f.name].all()) for f in sight.of(subject).families if f.name in masks):
            return subject, Plan()
        prove = self.verify and not any(p.is_meta for p in subject.parameters())
        with ExitStack() as until_proven:
            added = until_proven.enter_context(with_biases(subject, choice.values))
            until_proven.enter_context(written(subject, choice.values))
            coupling: Coupling = sight.of(subject)  # again, if biases were added
            keep, turns = _turned(subject, coupling, masks)
            with same_function(subject, sight.call, coupling) if prove and turns else nullcontext():
                until_proven.enter_context(rearranged(turns))
            gone = coupling.gone(keep)
            if prove:
                surgery = proven_cut_(subject, (sight.call, otherwise(sight.call)), coupling, gone)
            else:
                surgery = cut_(subject, sight.call, coupling, gone)
        follow(replace(cut, turned=turning(cut.old, turns)) for cut in surgery.cuts)
        return subject, Plan(added) + surgery.plan

    def _left_out(self, family: Family, shared: set[str], whole: Mapping[str, str]) -> str:
        """Why a family does not go; empty where it may."""
        if not self._offers(family, shared):
            return "excluded"
        paths = (m.name.rpartition(".")[0] for m in family.members)
        return next((why for path in paths for block, why in whole.items() if f"{path}.".startswith(f"{block}.")), "")

    def _offers(self, family: Family, shared: set[str]) -> bool:
        kinds = {family.kind}
        if family.kind == "kv-groups" or (family.kind == "heads" and not any(m.name in shared for m in family.members)):
            kinds.add("attention")
        if (self.kinds and kinds.isdisjoint(self.kinds)) or (not self.streams and _is_stream(family)):
            return False
        names = {family.name, *(m.name for m in family.members), *(m.name.rpartition(".")[0] for m in family.members)}
        if any(fnmatch(name, p) for name in names for p in self.exclude):
            return False
        return any(fnmatch(name, p) for name in names for p in self.include)


def _units(coupling: Coupling, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keeps of strands as keeps of units, in whichever order of strands they are that."""
    sizes = {f.name: f.size for f in coupling.families}
    return {name: as_units(name, sizes[name], mask)[0] for name, mask in masks.items() if name in sizes}


def _turned(
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
            turns.append((_group(family, _members(family, mine, named, {}), "", mine, Channels()), order))
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


@contextmanager
def with_biases(subject: nn.Module, values: Mapping[str, Tensor]) -> Iterator[tuple[AddBias, ...]]:
    """Biases for the layers that values name one of and have none; they go again where what follows fails.

    Raises:
        SubjectError: a value names what is no tensor of the subject and can be no bias of a layer.
    """
    known = {n for n, _ in (*subject.named_parameters(remove_duplicate=False), *subject.named_buffers())}
    added = tuple(AddBias(name) for name in values if name not in known)
    done: list[AddBias] = []
    try:
        for action in added:
            try:
                action.replay_(subject)
            except AttributeError as error:
                raise SubjectError(
                    f"a repair gave a value for {action.tensor!r}, and there is no such tensor: {error}",
                    where=type(subject).__name__,
                    mend="leave the layer out with exclude=[...], or prune with recovery='none'",
                ) from error
            done.append(action)
        yield added
    except BaseException:
        for action in done:
            action.undo_(subject)
        raise


@contextmanager
def written(subject: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """New values in the subject's tensors, in place; the old ones come back where what follows fails."""
    named = dict((*subject.named_parameters(remove_duplicate=False), *subject.named_buffers(remove_duplicate=False)))
    tensors = {name: named[name].detach() for name in values}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        tensor.copy_(values[name])
    try:
        yield
    except BaseException:
        for name, tensor in tensors.items():
            tensor.copy_(before[name])
        raise


def _is_stream(family: Family) -> bool:
    """Whether anything makes its units after something has read them; members come in the order of the pass."""
    roles = [{r.value for r in m.roles} for m in family.members]
    read = next((i for i, r in enumerate(roles) if r == {"consumer"}), len(roles))
    return any("producer" in r for r in roles[read:])


def _group(
    family: Family, members: tuple[Member, ...], section: str, strands: Strands | None, structure: Channels
) -> Group:
    costs = {"params": 0.0, "bytes": 0.0}
    for m in members:
        if m.is_parameter:
            elements = m.index.shape[1] * m.tensor.numel() / m.group.size
            costs["params"] += elements
            costs["bytes"] += elements * m.tensor.element_size()
    multiple = lcm(structure.multiple if family.size >= structure.multiple else 1, family.multiple)
    whole = family.size % multiple
    least = max(structure.floor, family.floor)
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


def _members(
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
