"""Cuts a model: every tensor by index, every size that Python keeps, and what optimizers remember."""

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakIdKeyDictionary

from secateur.core.errors import SubjectError
from secateur.core.plan import Plan, Resize, mend_sizes_, put_tensors_

from .capture import Call
from .coupling import Coupling, Gone
from .trial import Mismatch, mends_of

_PIECE = 1 << 20
_Changes = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Cut:
    """One tensor of a cut: what it was, what it is, and which positions stayed in which dimension.

    Attributes:
        turned: what was done to it before that, which its moments do not know of yet.
    """

    old: Tensor
    new: Tensor
    kept: Mapping[int, Tensor]
    turned: Callable[[Tensor], Tensor] | None = None


def sliced(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """The positions that stay, by dimension; rows in pieces, so that no half-cut copy of a large tensor ever exists."""
    if not kept:
        return tensor.clone()
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
    touched: dict[str, set[str]] = {}
    for mend in mends:
        own = touched.setdefault(mend.module, {"_qkv_same_embed_dim"})  # an attention that is cut sets it
        own.add(mend.attribute.partition(".")[0])
    before = tuple(
        (module, type(module), {name: held for name, held in vars(module).items() if name in touched[path]})
        for path, module in model.named_modules()
        if path in touched
    )
    pairs: list[tuple[Tensor, Tensor]] = []
    actions = []
    lengths = _lengths(coupling, named, kept)
    names = (*kept, *(n for n in lengths if n not in kept))
    for name in names:
        old = named[name]
        new = lengths[name] if name in lengths else sliced(old.detach(), kept[name])
        pairs.append((old, new))
        actions.append(Resize(name, tuple(new.shape)))
    made = put_tensors_(model, pairs)
    cuts = tuple(Cut(old, new, kept.get(name, {})) for name, (old, _), new in zip(names, pairs, made, strict=True))
    for mend in mends:
        mend.replay_(model)
    for _, module in model.named_modules():
        mend_sizes_(module)
    return Surgery(Plan((*actions, *mends)), cuts, before)


def _lengths(coupling: Coupling, named: Mapping[str, Tensor], kept: Mapping[str, Mapping[int, Tensor]]) -> _Changes:
    """What `g` becomes where a weight is `g * v / |v|` and `v` loses positions that its norm runs over.

    The rest of the weight is then what it was: `g` shrinks as the norm does.
    """
    found = {}
    for v, g, dim in coupling.flow.notes.normed:
        direction, length = str(coupling.graph.values[v].name), str(coupling.graph.values[g].name)
        if not set(kept.get(direction, {})) - {dim} or length not in named:
            continue
        before, own = named[direction].detach(), kept[direction]
        norms = torch.norm_except_dim(before, 2, dim)
        norms = sliced(norms, {dim: own[dim]}) if dim in own else norms
        share = torch.norm_except_dim(sliced(before, own), 2, dim) / norms
        found[length] = sliced(named[length].detach(), kept.get(length, {})) * share.where(norms > 0, 1.0)
    return found


_CUTS = WeakIdKeyDictionary()
"""Cuts by the tensor that was cut, as long as somebody still holds it: an optimizer that does not know of it yet."""
_GONE = WeakIdKeyDictionary()
"""Tensors that are no longer in a model, with that model, weakly."""


def forget(tensors: Iterable[Tensor], model: nn.Module) -> None:
    """Let optimizers of a model drop tensors that it lost, and what they remember of them, at their next step."""
    for tensor in tensors:
        _GONE[tensor] = weakref.ref(model)
    _hook()


def follow(cuts: Iterable[Cut]) -> None:
    """Let every optimizer that holds one of these tensors go on with what it became, at its next step."""
    for cut in cuts:
        _CUTS[cut.old] = (cut.new, tuple(cut.old.shape), dict(cut.kept), cut.turned)
    _hook()


def follow_(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer go on with cut parameters now: its moments are cut alike, everything else stays.

    Optimizers that nobody tells do this at their next step. Tell one that a gradient scaler looks into before that.
    """
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            while (known := _CUTS.get(parameter)) is not None:  # type: ignore[no-untyped-call]
                new, shape, kept, turned = known
                state = optimizer.state.pop(parameter, None)
                if state is not None:
                    optimizer.state[new] = {key: _sliced(value, shape, kept, turned) for key, value in state.items()}
                group["params"][place] = parameter = new
    _drop_gone_(optimizer)


def _drop_gone_(optimizer: torch.optim.Optimizer) -> None:
    """Drop what the models of an optimizer lost; a layer that somebody took out to train it elsewhere stays there."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = {id(p) for p in held}
    models = {id(model): model for p in held if p in _GONE and (model := _GONE[p]()) is not None}
    own = {n for n, model in models.items() if any(id(p) in numbers for p in model.parameters())}
    for group in optimizer.param_groups:
        gone = [p for p in group["params"] if p in _GONE and id(_GONE[p]()) in own]
        for parameter in gone:
            optimizer.state.pop(parameter, None)
        left = {id(p) for p in gone}
        group["params"][:] = [p for p in group["params"] if id(p) not in left]


def _sliced(
    value: Any, shape: tuple[int, ...], kept: Mapping[int, Tensor], turned: Callable[[Tensor], Tensor] | None
) -> Any:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        return value
    return sliced(value if turned is None else turned(value), kept)


@cache
def _hook() -> Any:
    return register_optimizer_step_pre_hook(lambda optimizer, *_: follow_(optimizer))
