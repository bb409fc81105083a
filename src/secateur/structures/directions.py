"""Directions of the residual stream: a model's hidden width, which is rotated before it is cut."""

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from secateur.core import BudgetError, Choice, Group, Plan, RecipeError, Site, Space, Stats, Structure, SubjectError
from secateur.graph import PreNorm

from .sight import Call, Sight, sight_of
from .sliced_stream import SlicedStream, is_sliced, places, rotatable


@dataclass(frozen=True)
class Directions(Structure):
    """The residual stream wherever a norm reads it, each place a group of as many directions as the stream is wide.

    Before the first cut the norms are fused into the layers that read them, so that every rotation leaves the function
    as it is, and blocks get shortcuts, because the directions differ from place to place. A solver may give a group's
    choice a value, a matrix whose rows are the directions; without one they are the coordinates as they are.

    Models are those whose blocks compute x + branch(norm(x)); they are found by running them on an example, and each
    block is proven on a copy before anything changes.

    Attributes:
        head: whether what the head reads is cut, too; otherwise the last block gives the whole width. Where the model's
            own code takes the width of the beginning for that of the end (GPT-2), it is cut in any case.
        floor: fewest directions that stay at each place.
        verify: whether outputs are compared before and after the norms are fused.

    Raises:
        RecipeError: a floor below 1.
    """

    head: bool = False
    floor: int = 1
    verify: bool = True

    def __post_init__(self) -> None:
        if self.floor < 1:
            raise RecipeError(f"floor is {self.floor}", where="Directions(floor=...)", mend="1 or more")
        object.__setattr__(self, "_work", WeakKeyDictionary())

    @property
    def cuts(self) -> bool:
        return True

    def seeing(self, call: Call | None) -> "Directions":
        made = replace(self)
        object.__setattr__(made, "_sight", None if call is None else Sight(call, rotatable))
        return made

    def find(self, subject: Any) -> Space:
        """One group for each place, named by the weight of the norm that reads it.

        Raises:
            SubjectError: no module; no example; its stream cannot be rotated, or is sliced already.
        """
        sight = sight_of(self, subject)
        work = self._working(subject)
        if work is None and is_sliced(subject):
            raise SubjectError(
                "its stream is sliced already", where=type(subject).__name__, mend="slice the dense model once"
            )
        form = sight.of(subject) if work is None else work.form
        held = dict(subject.named_parameters(remove_duplicate=False))
        groups = []
        for place in places(form, self.head):
            weight = held.get(place.name)
            fits = weight is not None and weight.shape == (form.width,)
            site = Site(place.name, weight, (), 1) if fits and weight is not None else None
            groups.append(
                Group(place.name, (form.width, 1), floor=min(self.floor, form.width), site=site, kind="directions")
            )
        return Space(tuple(groups))

    def rewrite_(self, subject: nn.Module, stats: Stats) -> Plan:
        """Fuse the norms and give the blocks shortcuts, once."""
        return Plan() if is_sliced(subject) else self._begun(subject).plan

    @torch.no_grad()
    def apply_(self, subject: nn.Module, choice: Choice) -> tuple[nn.Module, Plan]:
        """Cut the stream at the places of the choice, in place."""
        work, plan = self._working(subject), Plan()
        form = sight_of(self, subject).of(subject) if work is None else work.form
        _check_even(form, choice)
        if work is None:
            work = self._begun(subject)
            plan = work.plan
        for place in work.places:
            if place.name in choice.keep:
                keep = choice.keep[place.name].flatten().cpu()
                plan += work.slice_(place, _axes(choice.values.get(place.name), keep))
        if work.done:
            del self._all()[subject]
        return subject, plan

    def _begun(self, subject: nn.Module) -> SlicedStream:
        sight = sight_of(self, subject)
        form = sight.of(subject)
        real = self.verify and not any(p.is_meta for p in subject.parameters())
        self._all()[subject] = SlicedStream(subject, form, sight.call if real else None, self.head)
        return self._all()[subject]

    def _working(self, subject: nn.Module) -> SlicedStream | None:
        return self._all().get(subject)

    def _all(self) -> "WeakKeyDictionary[nn.Module, SlicedStream]":
        return self._work  # type: ignore[attr-defined, no-any-return]


def _check_even(form: PreNorm, choice: Choice) -> None:
    """Where the model's own code wants one width at both ends, the choice has that; first and last may come apart."""
    ends = [f"{form.blocks[0].steps[0].norms[0]}.weight", f"{form.norm}.weight"]
    counts = {int(choice.keep[name].sum()) for name in ends if name in choice.keep}
    if form.even and len(counts) > 1:
        raise BudgetError(
            f"its stream would begin and end with {' and '.join(map(str, sorted(counts)))} dimensions, "
            "and its own code takes one width for both",
            where=f"groups {ends[0]!r} and {ends[1]!r}",
            mend="a budget that gives all the same, as StreamWidths(tilt=0)",
        )


def _axes(value: Tensor | None, keep: Tensor) -> Tensor:
    """The directions that stay, as columns."""
    rows = torch.eye(len(keep), dtype=torch.float64) if value is None else value.double()
    return rows[keep.to(rows.device)].T.contiguous()
