"""Plan: what was done to a subject, replayable on a fresh or a meta one. A checkpoint stores it, `load` replays it.

Actions are a closed set of plain data: a saved folder can name an action, never code.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from .errors import CheckpointError
from .masks import MASK_SUFFIX, attach_mask_, owner_of


@dataclass(frozen=True)
class Mask:
    """The named parameter is multiplied by a mask; the mask itself is stored with the tensors."""

    tensor: str

    def replay_(self, model: nn.Module) -> None:
        module, leaf = owner_of(model, self.tensor)
        if leaf + MASK_SUFFIX in module._buffers:
            return
        parameter = getattr(module, leaf)
        if not isinstance(parameter, torch.Tensor):
            raise AttributeError(f"{self.tensor!r} is no tensor")
        mask = torch.ones(parameter.shape, dtype=torch.bool, device=parameter.device)
        attach_mask_(model, self.tensor, mask)


@dataclass(frozen=True)
class _Find(Mask):
    """A mask that is not attached."""

    def replay_(self, model: nn.Module) -> None:
        module, leaf = owner_of(model, self.tensor)
        if not isinstance(getattr(module, leaf), torch.Tensor):
            raise AttributeError(f"{self.tensor!r} is no tensor")


@dataclass(frozen=True)
class Resize:
    """The named parameter or buffer now has this shape; sizes that its module keeps as attributes follow."""

    tensor: str
    shape: tuple[int, ...]

    def replay_(self, model: nn.Module) -> None:
        module, leaf = owner_of(model, self.tensor)
        old = getattr(module, leaf)
        if old.dim() != len(self.shape):
            raise AttributeError(f"{self.tensor!r} has {old.dim()} dimensions")
        new = torch.empty(self.shape, dtype=old.dtype, device=old.device)
        if isinstance(old, nn.Parameter):
            setattr(module, leaf, nn.Parameter(new, requires_grad=old.requires_grad))
        else:
            setattr(module, leaf, new)
        mend_sizes_(module)


def mend_sizes_(module: nn.Module) -> None:
    """Set the size attributes of a Linear or Embedding to those of its weight."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape


Action = Mask | Resize
_KINDS: dict[str, type[Action]] = {"mask": Mask, "resize": Resize}


@dataclass(frozen=True)
class Plan:
    """Actions in the order in which they were done; plans join with `+`, and repeating a mask adds nothing."""

    actions: tuple[Action, ...] = ()

    def __add__(self, other: "Plan") -> "Plan":
        new = [a for a in other.actions if not (isinstance(a, Mask) and a in self.actions)]
        return Plan(self.actions + tuple(new))

    def replay_(self, model: nn.Module) -> None:
        """Do it again, in place, on a fresh model of the same architecture (on any device, meta included).

        Raises:
            CheckpointError: the model has no tensor of that name and number of dimensions.
        """
        for action in self.actions:
            try:
                action.replay_(model)
            except AttributeError as error:
                raise CheckpointError(
                    f"the plan speaks of {action.tensor!r}, but this model has no such tensor",
                    where=f"action {action} on {type(model).__name__}",
                    mend="load into the architecture that was pruned",
                ) from error

    def without_masks(self) -> "Plan":
        """What is left to replay where masks are folded into the stored tensors: every mask just finds its tensor."""
        return Plan(tuple(_Find(a.tensor) if isinstance(a, Mask) else a for a in self.actions))

    def to_json(self) -> list[dict[str, object]]:
        """Plain data, for `secateur.json`."""
        names = {kind: name for name, kind in _KINDS.items()}
        return [{"do": names[type(a)], **_plain(asdict(a))} for a in self.actions]

    @classmethod
    def from_json(cls, data: object) -> "Plan":
        """The inverse of `to_json`; anything unexpected is a `CheckpointError`."""
        if not isinstance(data, list):
            raise _damaged(data)
        return cls(tuple(_action(entry) for entry in data))


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


_MOST_ELEMENTS = 1 << 40  # 4 TB in float32: beyond any tensor, far below what overflows


def _action(entry: object) -> Action:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("tensor"), str):
        raise _damaged(entry)
    match dict(entry):
        case {"do": "mask", "tensor": str(tensor), **rest} if not rest:
            return Mask(tensor)
        case {"do": "resize", "tensor": str(tensor), "shape": list(shape), **rest} if not rest:
            sizes = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= _MOST_ELEMENTS for n in shape)
            if sizes and math.prod(shape) <= _MOST_ELEMENTS:
                return Resize(tensor, tuple(shape))
    raise _damaged(entry)


def _damaged(entry: object) -> CheckpointError:
    return CheckpointError(
        f"{str(entry)[:80]!r} is no action of a plan",
        where="secateur.json, key 'plan'",
        mend="the file was edited or is of a newer version: restore it, or upgrade secateur",
    )
