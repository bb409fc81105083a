r"""A model on the way to a sliced stream: its norms fused, its blocks with shortcuts, its stream sliced place by place.

At each place where a norm reads the stream there is a matrix Q of orthogonal columns, the directions that stay. With

    readers:  W Q        writers before it:  Q^T W        shortcut between two places:  S = Q_before^T Q_after

the stream holds x Q instead of x (Ashkboos et al., "SliceGPT", ICLR 2024, section 3.3). The first place of a block is
folded into the block before only when the next block begins: until then the block takes x as it flows, so that it can
run on what was computed before its directions were known.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from secateur.core import Branch, NumericsError, Plan, Rewire, SlicedNorm
from secateur.graph import NormForm, PreNorm, Step, SumBlock, prenorm_of, refused

from .linear_maps import put_weight_, sizes, times_inputs_, times_outputs_
from .norm_fusion import fuse_block_, fuse_norms_

Call = Callable[[Any], Any]
Axes = Float[Tensor, "width stay"]
_COARSE = {torch.bfloat16: 5e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class Place:
    """Where norms read the stream: a step of a block, or behind them all."""

    name: str
    block: int
    step: int
    norms: tuple[str, ...]


def places(form: PreNorm, head: bool) -> list[Place]:
    """All places of a stream in the order of the pass.

    Args:
        head: whether the last one, which the head reads, is one of them; it is anyway where the model's own code takes
            the width of the beginning for that of the end.
    """
    found = [
        Place(f"{step.norms[0]}.weight", b, s, step.norms)
        for b, block in enumerate(form.blocks)
        for s, step in enumerate(block.steps)
    ]
    last = Place(f"{form.norm}.weight", len(form.blocks), 0, (form.norm,))
    return [*found, last] if head or form.even else found


def rotatable(model: nn.Module, call: Call) -> PreNorm:
    """How the stream of a model is put together, each block proven on a copy: rotated, it gives its output rotated.

    Raises:
        SubjectError: it is no model whose stream can be rotated; says where.
    """
    return prenorm_of(model, call, lambda *told: _check_block(model, *told))


class SlicedStream:
    """Turns a model into one that can be sliced, in place, and slices it.

    Args:
        call: runs the model on an example, to prove that fusing its norms changed nothing; None leaves it out.
        head: whether what the head reads is sliced, too.

    Raises:
        NumericsError: fusing the norms changed the outputs.
    """

    def __init__(self, model: nn.Module, form: PreNorm, call: Call | None, head: bool) -> None:
        self._model, self.form = model, form
        self.places = places(form, head)
        self._todo = {place.name for place in self.places}
        self._pending: tuple[int, Axes] | None = None
        before = None if call is None else _logits(model, call)
        self.plan = fuse_norms_(model, form)
        for block in form.blocks:
            self.plan += rewire_(model, block, form.width)
        for place in self.places:
            norm, like = model.get_submodule(place.norms[0]), next(model.parameters())
            norm.weight = nn.Parameter(torch.ones(form.width, dtype=like.dtype, device=like.device))
        if call is not None and before is not None:
            _check_equal(model, before, _logits(model, call))

    @property
    def done(self) -> bool:
        """Whether all places are sliced."""
        return not self._todo

    @torch.no_grad()
    def slice_(self, place: Place, Q: Axes) -> Plan:
        """Keep these directions of the stream at one place, in place; places come in the order of the pass.

        Args:
            Q: orthogonal columns, float64.
        """
        changed: list[str] = []
        blocks, b, s = self.form.blocks, place.block, place.step
        readers = self.form.heads if b == len(blocks) else _read(blocks[b].steps[s])
        for path in readers:
            times_inputs_(self._module(path), Q)
        changed += readers
        if b == len(blocks):
            changed += self._write_(b, 0, Q)
        elif s:
            changed += [*self._write_(b, s, Q), f"{blocks[b].path}.shortcuts.{s}"]
            times_inputs_(self._shortcut(b, s), Q)
        else:
            changed += self._fold_()
            self._pending = b, Q
            for path in place.norms:
                norm = self._module(path)
                norm.axes = Q.to(next(self._model.parameters()))
            times_inputs_(self._shortcut(b, 0), Q @ Q.T)
        self._todo.discard(place.name)
        if self.done:
            changed += self._fold_()
            for each in self.places:
                self._module(each.norms[0])._parameters["weight"] = None
        # shapes while a first place is pending are told anew when it is folded
        told = [action for path in dict.fromkeys(changed) for action in sizes(path, self._module(path))]
        return Plan(tuple(told))

    def _fold_(self) -> list[str]:
        """Put the first place of a block into what writes there."""
        if self._pending is None:
            return []
        (b, Q), self._pending = self._pending, None
        for path in self.form.blocks[b].steps[0].norms:
            self._module(path)._buffers["axes"] = None
        times_inputs_(self._shortcut(b, 0), Q)
        return [*self._write_(b, 0, Q), f"{self.form.blocks[b].path}.shortcuts.0"]

    def _write_(self, b: int, s: int, Q: Axes) -> list[str]:
        """What writes the stream at a place gives x Q; the paths of what changed."""
        if s == 0 and b == 0:
            wrote = list(self.form.entries)
        else:
            b, s = (b, s - 1) if s else (b - 1, len(self.form.blocks[b - 1].steps) - 1)
            block = self.form.blocks[b]
            wrote = [*block.steps[s].writers, f"{block.path}.shortcuts.{s}"]
        for path in wrote:
            times_outputs_(self._module(path), Q)
        return wrote

    def _module(self, path: str) -> nn.Module:
        return self._model.get_submodule(path)

    def _shortcut(self, b: int, s: int) -> nn.Module:
        return self._module(f"{self.form.blocks[b].path}.shortcuts.{s}")


def _read(step: Step) -> list[str]:
    return [path for readers in step.readers.values() for path in readers]


@torch.no_grad()
def rewire_(model: nn.Module, block: SumBlock, width: int) -> Plan:
    """Give a block shortcuts that do nothing yet."""
    steps: tuple[tuple[Branch, ...], ...] = tuple(step.branches for step in block.steps)
    action = Rewire(block.path, steps, ((width, width),) * len(steps))
    action.replay_(model)
    for made in model.get_submodule(block.path).shortcuts:  # type: ignore[union-attr]
        nn.init.eye_(made.weight)
    return Plan((action,))


def _check_block(
    model: nn.Module, block: SumBlock, forms: Mapping[str, NormForm], args: Any, kwargs: Any, output: Tensor
) -> None:
    """A copy of the block, its norms fused and its stream rotated, gives the output rotated."""
    twin = copy.deepcopy(model.get_submodule(block.path))
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    wide = output.dtype == torch.float64
    twin = twin if wide else twin.float()
    args, kwargs = tree_map(lambda t: t.float() if _half(t) else t, (args, kwargs))
    leaves, spec = tree_flatten((args, kwargs))
    at = next(i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
    x = leaves[at]
    dense = twin(*args, **kwargs)
    if not torch.isfinite(dense).all():
        raise _not_finite(model, block.path)
    held = nn.ModuleDict({"block": twin})
    mine, my_forms = _renamed(block, forms)
    fuse_block_(held, mine, my_forms, x.shape[-1])
    rewire_(held, mine, x.shape[-1])
    Q = torch.linalg.qr(torch.randn(x.shape[-1], x.shape[-1], generator=torch.Generator().manual_seed(1)).double()).Q
    for number, step in enumerate(mine.steps):
        for path in _read(step):
            times_inputs_(held.get_submodule(path), Q)
        for path in step.writers:
            times_outputs_(held.get_submodule(path), Q)
        put_weight_(twin.shortcuts[number], torch.eye(len(Q), dtype=Q.dtype))  # type: ignore[index, arg-type]
    centred = next(iter(my_forms.values())).centred
    leaves[at] = _turned(x, Q, centred)
    args, kwargs = tree_unflatten(leaves, spec)
    found, expected = twin(*args, **kwargs), _turned(dense, Q, centred)
    apart = float((found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-30))
    if not apart < 1e-4:
        raise refused(f"rotated, its output differs by {apart:.2g}: it is no sum of branches behind norms", block.path)


def _not_finite(model: nn.Module, where: str) -> NumericsError:
    """The error for a block whose output is not finite; names a weight that is not, if there is one."""
    broken = next((name for name, p in model.named_parameters() if not torch.isfinite(p).all()), None)
    return NumericsError(
        f"{where} gives numbers that are not finite" + (": so are weights" if broken else ""),
        where=where if broken is None else f"tensor {broken!r}",
        mend="repair or reload the weights" if broken else "check the data, or run it in float32 or bfloat16",
    )


def _half(thing: Any) -> bool:
    return isinstance(thing, Tensor) and thing.dtype in (torch.bfloat16, torch.float16)


def _turned(x: Tensor, Q: Axes, centred: bool) -> Tensor:
    wide = x.double()
    wide = wide - wide.mean(-1, keepdim=True) if centred else wide
    return (wide @ Q.to(x.device)).to(x.dtype)


def _renamed(block: SumBlock, forms: Mapping[str, NormForm]) -> tuple[SumBlock, dict[str, NormForm]]:
    """The same with the block under the path `block`."""

    def new(path: str) -> str:
        return "block" + path.removeprefix(block.path)

    steps = tuple(
        replace(
            step,
            norms=tuple(map(new, step.norms)),
            readers={new(norm): tuple(map(new, paths)) for norm, paths in step.readers.items()},
            writers=tuple(map(new, step.writers)),
        )
        for step in block.steps
    )
    mine = {new(path): form for path, form in forms.items() if path.startswith(f"{block.path}.")}
    return SumBlock("block", steps), mine


@torch.no_grad()
def _logits(model: nn.Module, call: Call) -> Tensor | None:
    was = model.training
    found = call(model.eval())
    model.train(was)
    found = getattr(found, "logits", found)
    return found.detach().clone() if isinstance(found, Tensor) else None


def _check_equal(model: nn.Module, before: Tensor, after: Tensor | None) -> None:
    assert after is not None
    apart = float((after.double() - before.double()).norm() / before.double().norm().clamp_min(1e-30))
    if not apart < max(_COARSE.get(p.dtype, 1e-4) for p in model.parameters()):
        raise NumericsError(
            f"with its norms fused the outputs differ by {apart:.2g} of their size",
            where=type(model).__name__,
            mend="load the model again: it was changed; try it in float32",
        )


def is_sliced(model: nn.Module) -> bool:
    """Whether the stream of a model is sliced, or on its way."""
    return any(isinstance(module, SlicedNorm) for module in model.modules())
