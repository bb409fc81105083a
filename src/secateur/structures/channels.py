"""Coupled units: channels, heads, hidden units, widths. They are cut: the model becomes smaller and runs faster."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

from torch import Tensor, nn

from secateur.core import Choice, Plan, RecipeError, Space, Structure
from secateur.core.strands import rearranged, turning
from secateur.graph import (
    Coupling,
    Family,
    couple,
    cut_,
    follow,
    otherwise,
    proven_cut_,
    same_function,
    strands_of,
)

from .ends import whole_blocks
from .new_values import with_biases, written
from .sections import section_of, sections_of
from .sight import Call, Sight, on, sight_of
from .surroundings import surroundings_of
from .unit_groups import group_of, turned, units_of

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
        settings = {"floor": self.floor, "multiple": self.multiple}
        groups = [
            group_of(f, strands.get(f.name), named, layers, section=section_of(f, sections), **settings)
            for f in offered
        ]
        params = sum(p.numel() for p in subject.parameters())
        size = sum(p.numel() * p.element_size() for p in subject.parameters())
        parameters = {n for n, _ in subject.named_parameters()}

        def remaining(keep: Mapping[str, Tensor], total: float, weigh: Callable[[str], int]) -> float:
            gone = coupling.gone(units_of(coupling, keep))
            return total - sum(weigh(n) * c for n, c in coupling.lost(gone).items() if n in parameters)

        totals = {
            "macs": lambda keep: float(coupling.macs(coupling.gone(units_of(coupling, keep)))),
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
            keep, turns = turned(subject, coupling, masks)
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


def _is_stream(family: Family) -> bool:
    """Whether anything makes its units after something has read them; members come in the order of the pass."""
    roles = [{r.value for r in m.roles} for m in family.members]
    read = next((i for i, r in enumerate(roles) if r == {"consumer"}), len(roles))
    return any("producer" in r for r in roles[read:])
