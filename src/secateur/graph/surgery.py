"""Cuts a model: every tensor by index, every size that Python keeps, and what optimizers remember."""

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from secateur.core.errors import SubjectError
from secateur.core.plan import Mend, Plan, Resize, mend_sizes_, put_tensors_

from .capture import Call
from .coupling import Coupling, Gone
from .trial import Mismatch, mends_of


_PIECE = 1 << 20


@dataclass(frozen=True, eq=False)
class Cut:
    """One tensor of a cut: what it was, what it is, and which positions stayed in which dimension."""

    old: Tensor
    new: Tensor
    kept: Mapping[int, Tensor]

    def sliced(self, like: Tensor) -> Tensor:
        """A tensor of the old shape, such as a momentum, cut as this one was."""
        return sliced(like, self.kept)


def sliced(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """The positions that stay, by dimension; rows in pieces, so that no half-cut copy of a large tensor ever exists."""
    index = {dim: where.to(tensor.device) for dim, where in kept.items()}
    made = tensor.new_empty([len(index[d]) if d in index else n for d, n in enumerate(tensor.shape)])
    rows = index.pop(0, None)
    step = max(1, _PIECE * len(tensor) // max(tensor.numel(), 1))
    for start in range(0, len(made), step):
        piece = tensor[start : start + step] if rows is None else tensor.index_select(0, rows[start : start + step])
        for dim, where in index.items():
            piece = piece.index_select(dim, where)
        made[start : start + step] = piece
    return made


@dataclass(frozen=True, eq=False)
class Surgery:
    """What a cut did, so that it can be undone and optimizers can follow."""

    plan: Plan
    cuts: tuple[Cut, ...]
    before: tuple[tuple[nn.Module, type[nn.Module], dict[str, Any]], ...]

    def undo_(self, model: nn.Module) -> None:
        """Everything as it was."""
        put_tensors_(model, [(cut.new, cut.old) for cut in self.cuts])
        for module, kind, attributes in self.before:
            module.__class__ = kind
            vars(module).update(attributes)
            mend_sizes_(module)


@torch.no_grad()
def cut_(model: nn.Module, call: Call, coupling: Coupling, gone: Gone) -> Surgery:
    """Remove factors from a model, in place.

    Raises:
        SubjectError: the forward function keeps a size that no attribute explains; nothing was changed.
    """
    mends = mends_of(model, call, coupling, gone)
    if isinstance(mends, Mismatch):
        raise SubjectError(
            f"{mends.op!r} would not run on the smaller model: {mends.why}",
            where=f"module {mends.module!r} of {type(model).__name__}",
            mend="leave what it couples out with exclude=[...], or keep the size in an attribute of the module",
        )
    named = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    kept: dict[str, dict[int, Tensor]] = {}
    for name, dim, stays in coupling.sites(gone):
        kept.setdefault(name, {})[dim] = torch.from_numpy(stays.nonzero()[0])
    touched = {m.module for m in mends}
    before = tuple(
        (module, type(module), {m.attribute: getattr(module, m.attribute) for m in mends if m.module == path})
        for path, module in model.named_modules()
        if path in touched
    )
    pairs: list[tuple[Tensor, Tensor]] = []
    actions = []
    for name, dims in kept.items():
        old = named[name]
        new = sliced(old.detach(), dims)
        pairs.append((old, new))
        actions.append(Resize(name, tuple(new.shape)))
    made = put_tensors_(model, pairs)
    cuts = tuple(Cut(old, new, dims) for (old, _), new, dims in zip(pairs, made, kept.values(), strict=True))
    for mend in mends:
        mend.replay_(model)
    for _, module in model.named_modules():
        mend_sizes_(module)
    return Surgery(Plan((*actions, *mends)), cuts, before)


def migrate_(optimizer: torch.optim.Optimizer, cuts: Iterable[Cut]) -> None:
    """Make an optimizer go on with cut parameters: its moments are cut alike, everything else stays."""
    by_old = {id(cut.old): cut for cut in cuts}
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            cut = by_old.get(id(parameter))
            if cut is None:
                continue
            group["params"][place] = cut.new
            if parameter in optimizer.state:
                state = optimizer.state.pop(parameter)
                optimizer.state[cut.new] = {
                    key: cut.sliced(value) if isinstance(value, Tensor) and value.shape == cut.old.shape else value
                    for key, value in state.items()
                }


class Following:
    """Optimizers that nobody told of a cut are told at their next step.

    Use it as a context around a loop of the user's own, or call `close`.
    """

    def __init__(self) -> None:
        self._cuts: list[Cut] = []
        self._hook = register_optimizer_step_pre_hook(_follow(weakref.ref(self)))

    def add(self, cuts: Iterable[Cut]) -> None:
        """These tensors were cut."""
        self._cuts += cuts

    def migrate_(self, optimizer: torch.optim.Optimizer) -> None:
        """Tell this optimizer now."""
        for cut in self._cuts:  # one after another: a tensor may have been cut twice
            migrate_(optimizer, [cut])

    def close(self) -> None:
        """Stop following."""
        self._hook.remove()
        self._cuts.clear()


def _follow(following: "weakref.ref[Following]") -> Any:
    def before_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
        alive = following()
        if alive is not None:
            alive.migrate_(optimizer)

    return before_step


__all__ = ["Cut", "Following", "Mend", "Surgery", "cut_", "migrate_"]
