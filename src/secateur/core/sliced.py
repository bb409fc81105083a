"""A residual stream of fewer dimensions: the modules of a transformer with a sliced stream, and what puts them there.

A pre-norm block computes x + branch(norm(x)). Where its stream is sliced it computes x S + branch(norm(x)), with a norm
without weights that divides by the width of before, and a matrix S, the shortcut, from one width to the next (Ashkboos
et al., "SliceGPT", ICLR 2024).
"""

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from .files import MOST_ELEMENTS

SHORTCUTS = "shortcuts"


class SlicedNorm(nn.Module):
    """x / sqrt(sum_i x_i^2 / width + eps), computed in float32 or better.

    Args:
        width: of the stream before anything was sliced, by which the sum of squares is divided.
        eps: of the norm that was there.
    """

    weight: nn.Parameter | None
    axes: Tensor | None

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.register_parameter("weight", None)
        self.register_buffer("axes", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of the last dimension; `axes`, `[width, sliced]`, are applied first while a model is on its way."""
        if self.axes is not None:
            x = x @ self.axes
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) / self.width + self.eps)).to(x.dtype)

    def extra_repr(self) -> str:
        """What it divides by."""
        return f"width={self.width}, eps={self.eps}"


@dataclass(frozen=True)
class Branch:
    """What is added to the stream: modules one after another, the first of which reads a norm of it.

    Attributes:
        norm: name of a child of the block.
        chain: names of children of the block, in the order in which they run.
        passes: arguments of the block that the first of them is given, too.
    """

    norm: str
    chain: tuple[str, ...]
    passes: tuple[str, ...] = ()


Steps = tuple[tuple[Branch, ...], ...]
"""Sums of branches, one after another: attention, then MLP; or both in one, where they run beside each other."""


class SlicedBlock:
    """The forward pass of a block whose stream is sliced; a class of blocks is given it as its first base."""

    _steps: Steps
    _first: str

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """x <- x S + sum of the branches, step by step; takes what the block took and gives what it gave."""
        block: Any = self
        names = _names(type(self)._was)  # type: ignore[attr-defined]
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        x = given.pop(names[0])
        for step, shortcut in zip(self._steps, block.shortcuts, strict=True):
            total, normed = shortcut(x), dict[str, Tensor]()
            for branch in step:
                if branch.norm not in normed:
                    normed[branch.norm] = block._modules[branch.norm](x)
                y: Any = normed[branch.norm]
                for number, name in enumerate(branch.chain):
                    module = block._modules[name]
                    y = module(y) if number else module(y, **_passed(module, branch.passes, given, names))
                    y = y[0] if isinstance(y, tuple) else y
                total = total + y
            x = total
        return x


def _passed(
    module: nn.Module, passes: tuple[str, ...], given: dict[str, Any], names: tuple[str, ...]
) -> dict[str, Any]:
    """What a module of a block is given beside its input: what it always was, and what the block only passes on."""
    found = {name: given[name] for name in passes if name in given}
    if passes and _takes_more(cast(Any, type(module))):
        found |= {name: value for name, value in given.items() if name not in names}
    return found


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """The names of a forward function's own arguments."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(n for n, p in inspect.signature(kind.forward).parameters.items() if p.kind not in kinds)[1:]


@cache
def _takes_more(kind: Any) -> bool:
    parameters = inspect.signature(kind.forward).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


@cache
def _sliced_class(kind: Any) -> Any:
    """The class with another forward pass, under the same name: libraries look for it by name and by `isinstance`."""
    return type(kind.__name__, (SlicedBlock, kind), {"__module__": kind.__module__, "_was": kind})


def shortcut(inputs: int, outputs: int, like: Tensor) -> nn.Linear:
    """A linear layer without bias and without values."""
    made = nn.Linear(inputs, outputs, bias=False, device="meta")
    made.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=like.dtype, device=like.device))
    made.weight.requires_grad_(like.requires_grad)
    return made


@dataclass(frozen=True)
class Slim:
    """The named norm is a `SlicedNorm` from now on, without weights.

    Attributes:
        width: of the stream before anything was sliced.
        eps: as of the norm that was there.
    """

    module: str
    width: int
    eps: float

    @property
    def tensor(self) -> str:
        """What it speaks of, for messages."""
        return self.module

    def replay_(self, model: nn.Module) -> None:
        model.get_submodule(self.module)
        path, _, leaf = self.module.rpartition(".")
        if not leaf:
            raise AttributeError("the model itself is no norm")
        was = model.get_submodule(self.module)
        model.get_submodule(path)._modules[leaf] = SlicedNorm(self.width, self.eps).train(was.training)


@dataclass(frozen=True)
class Rewire:
    """The named block computes x S + branch(norm(x)), with shortcuts S of its own.

    Attributes:
        steps: norms, chains and arguments of the branches, by the names of the block's children.
        shapes: of the weights of the shortcuts, `[out, in]`, one for each step.
    """

    module: str
    steps: Steps
    shapes: tuple[tuple[int, int], ...]

    @property
    def tensor(self) -> str:
        """What it speaks of, for messages."""
        return self.module

    def replay_(self, model: nn.Module) -> None:
        block = model.get_submodule(self.module)
        held = [name for step in self.steps for branch in step for name in (branch.norm, *branch.chain)]
        like = next(block.parameters(), None)
        if isinstance(block, SlicedBlock) or like is None or not block._modules.keys() >= set(held):
            raise AttributeError(f"{self.module!r} is no such block")
        if len(self.shapes) != len(self.steps) or any(a * b > MOST_ELEMENTS for a, b in self.shapes):
            raise AttributeError(f"{self.module!r} has other shortcuts")
        block.__class__ = _sliced_class(cast(Any, type(block)))
        block._steps = self.steps  # type: ignore[assignment]
        block.add_module(SHORTCUTS, nn.ModuleList(shortcut(i, o, like) for o, i in self.shapes))

    @staticmethod
    def parsed(steps: object) -> Steps:
        """Steps from plain data. Raises ValueError where it is none."""
        made = []
        for step in _list(steps):
            branches = []
            for entry in _list(step):
                norm, chain, passes = _list(entry)
                names = [norm, *_list(chain), *_list(passes)]
                if not _list(chain) or not all(isinstance(name, str) for name in names):
                    raise ValueError("no branch")
                branches.append(Branch(norm, tuple(chain), tuple(passes)))
            made.append(tuple(branches))
        return tuple(made)

    def plain(self) -> dict[str, object]:
        """The fields as plain data."""
        steps = [[[b.norm, list(b.chain), list(b.passes)] for b in step] for step in self.steps]
        return {"module": self.module, "steps": steps, "shapes": [list(shape) for shape in self.shapes]}


def _list(thing: object) -> list[Any]:
    if not isinstance(thing, list):
        raise ValueError("no list")
    return thing


@dataclass(frozen=True)
class Untie:
    """The named parameter, which had other names too, is one of its own under this name.

    A config of transformers that says so, says so no more (`tie_word_embeddings`).
    """

    tensor: str

    def replay_(self, model: nn.Module) -> None:
        path, _, leaf = self.tensor.rpartition(".")
        held = model.get_submodule(path)._parameters
        old = held.get(leaf)
        if old is None:
            raise AttributeError(f"{self.tensor!r} is no parameter")
        held[leaf] = nn.Parameter(old.detach().clone(), requires_grad=old.requires_grad)
        config = getattr(model, "config", None)
        if getattr(config, "tie_word_embeddings", False) is True:
            config.tie_word_embeddings = False  # type: ignore[union-attr]
