"""Plan: what was done to a subject, replayable on a fresh or a meta one. A checkpoint stores it, `load` replays it.

Actions are a closed set of plain data: a saved folder can name an action, never code.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.utils.parametrize import is_parametrized

from .adapter import MOST_RANK, Adapt
from .added import AddBias
from .attention import CutAttention
from .depth import Drop, Skip
from .errors import CheckpointError
from .files import MOST_ELEMENTS, shape_of
from .masks import MASK_SUFFIX, attach_mask_, owner_of
from .sliced import Rewire, Slim, Untie
from .task import in_eval_mode


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
        put_tensors_(model, [(old, torch.empty(self.shape, dtype=old.dtype, device=old.device))])


@dataclass(frozen=True)
class Mend:
    """A size that a module keeps as an attribute, an integer or a sequence of them, is now this.

    `config.heads` is one of an object of settings; the module gets a copy of its own, since others may share it.
    The number of heads of an `nn.MultiheadAttention` also makes it a `CutAttention`.
    """

    module: str
    attribute: str
    value: int | tuple[int, ...]

    @property
    def tensor(self) -> str:
        """What it speaks of, for messages."""
        return f"{self.module}.{self.attribute}"

    def replay_(self, model: nn.Module) -> None:
        module = model.get_submodule(self.module)
        old = held_at(module, self.attribute)
        sizes = isinstance(old, tuple | list) and all(type(item) is int for item in old)
        if type(old) is not int and not sizes:
            raise AttributeError(f"{self.tensor!r} is no size")
        if isinstance(module, nn.MultiheadAttention):
            module.__class__ = CutAttention
            module._qkv_same_embed_dim = False  # keeps torch's fused encoder layers away
        value = list(self.value) if isinstance(old, list) else self.value  # type: ignore[arg-type]
        name, _, inner = self.attribute.partition(".")
        if inner:
            settings = copy.copy(getattr(module, name))
            setattr(settings, inner, value)
            setattr(module, name, settings)
        else:
            setattr(module, name, value)
        mend_sizes_(module)


def held_at(module: nn.Module, attribute: str) -> Any:
    """What a module keeps under a name, or under a name of its settings, such as `config.heads`; None if nothing."""
    name, _, inner = attribute.partition(".")
    held = vars(module).get(name)
    return held if not inner else vars(held).get(inner) if is_settings(held) else None


def is_settings(held: object) -> bool:
    """Whether an attribute of a module is an object that only holds values, as a config does."""
    return hasattr(held, "__dict__") and not isinstance(held, nn.Module | torch.Tensor | type) and not callable(held)


def put_tensors_(model: nn.Module, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    """Put new tensors in the place of parameters or buffers, under all their names; gives what was put there.

    Sizes that the modules keep as attributes follow. One walk over the modules serves all pairs of (old, new).
    """
    pairs = list(pairs)
    put = [_as_is(old, new) for old, new in pairs]
    put_ids = {id(new) for new in put}
    new_of = {id(old): new for (old, _), new in zip(pairs, put, strict=True)}
    for module in model.modules():
        touched = False
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if id(tensor) in new_of:
                    held[name] = new_of[id(tensor)]  # type: ignore[assignment]
                    touched = True
        if touched:
            mend_sizes_(module)
    for module in model.modules():
        if any(id(t) in put_ids for t in _of_parametrizations(module)):
            mend_sizes_(module)
    return put


def _as_is(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """The new tensor as a parameter where the old one is one, and the new one not yet."""
    if isinstance(old, nn.Parameter) and not isinstance(new, nn.Parameter):
        return nn.Parameter(new, requires_grad=old.requires_grad)
    return new


def mend_sizes_(module: nn.Module) -> None:
    """Set the size attributes of a module of torch to those of its tensors.

    A weight that is computed from several cannot be read while only some of them have their new size: the last one
    to change sees to it.
    """
    if not is_parametrized(module):
        _mend_sizes_(module)
        return
    with in_eval_mode(cast(nn.Module, module.parametrizations)), suppress(RuntimeError):  # in training some count calls
        _mend_sizes_(module)


def _mend_sizes_(module: nn.Module) -> None:
    match module:
        case nn.Linear():
            module.out_features, module.in_features = module.weight.shape
        case nn.Embedding():
            module.num_embeddings, module.embedding_dim = module.weight.shape
        case nn.modules.conv._ConvTransposeNd():
            module.in_channels, module.out_channels = len(module.weight), module.weight.shape[1] * module.groups
        case nn.modules.conv._ConvNd():
            module.out_channels, module.in_channels = len(module.weight), module.weight.shape[1] * module.groups
        case nn.modules.batchnorm._NormBase() if (held := _first(module.weight, module.running_mean)) is not None:
            module.num_features = len(held)
        case nn.LayerNorm() | nn.RMSNorm() if module.weight is not None:
            module.normalized_shape = tuple(module.weight.shape)
        case nn.GroupNorm() if module.weight is not None:
            module.num_channels = len(module.weight)
        case nn.PReLU():
            module.num_parameters = len(module.weight)
        case nn.RNNBase():
            _mend_recurrent_(module)
        case nn.MultiheadAttention():
            module.embed_dim = len(module.out_proj.weight)
            separate = module.in_proj_weight is None
            module.kdim = (module.k_proj_weight if separate else module.in_proj_weight).shape[1]
            module.vdim = (module.v_proj_weight if separate else module.in_proj_weight).shape[1]


def _of_parametrizations(module: nn.Module) -> list[torch.Tensor]:
    """The tensors that weights of a module are computed from."""
    lists = getattr(module, "parametrizations", None)
    return [] if lists is None else [*lists.parameters(), *lists.buffers()]


def _first(*tensors: torch.Tensor | None) -> torch.Tensor | None:
    return next((t for t in tensors if t is not None), None)


def _mend_recurrent_(module: nn.RNNBase) -> None:
    gates = {"LSTM": 4, "GRU": 3}.get(module.mode, 1)
    weights: dict[str, torch.Tensor] = {name: getattr(module, name) for name in module._flat_weights_names}
    module.hidden_size, module.input_size = len(weights["weight_ih_l0"]) // gates, weights["weight_ih_l0"].shape[1]
    if module.proj_size:
        module.proj_size = len(weights["weight_hr_l0"])
    module._flat_weights = list(weights.values())
    if all(not isinstance(w, FakeTensor) for w in module._flat_weights):
        module.flatten_parameters()


Action = Mask | Resize | Mend | Skip | Drop | Adapt | AddBias | Untie | Slim | Rewire
_KINDS: dict[str, type[Action]] = {
    "mask": Mask,
    "resize": Resize,
    "mend": Mend,
    "skip": Skip,
    "drop": Drop,
    "adapt": Adapt,
    "bias": AddBias,
    "untie": Untie,
    "slim": Slim,
    "rewire": Rewire,
}


@dataclass(frozen=True)
class Plan:
    """Actions in the order in which they were done; plans join with `+`, and repeating a mask adds nothing."""

    actions: tuple[Action, ...] = ()

    def __add__(self, other: "Plan") -> "Plan":
        done: list[Action] = []
        merged: dict[tuple[str, str], Action] = {}
        for action in (*self.actions, *other.actions):
            if isinstance(action, Drop):  # names mean other things after it, so nothing is merged across
                done += [*merged.values(), action]
                merged = {}
            else:
                merged[_subject(action)] = action  # the last size of a tensor is its size
        return Plan((*done, *merged.values()))

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
        return [
            {"do": names[type(a)], **(a.plain() if isinstance(a, Rewire) else _plain(asdict(a)))} for a in self.actions
        ]

    @classmethod
    def from_json(cls, data: object) -> "Plan":
        """The inverse of `to_json`; anything unexpected is a `CheckpointError`."""
        if not isinstance(data, list):
            raise _damaged(data)
        return cls(tuple(_action(entry) for entry in data))


def _subject(action: Action) -> tuple[str, str]:
    return type(action).__name__, action.tensor


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def _action(entry: object) -> Action:
    if not isinstance(entry, Mapping):
        raise _damaged(entry)
    match dict(entry):
        case {"do": "mask", "tensor": str(tensor), **rest} if not rest:
            return Mask(tensor)
        case {"do": "bias", "tensor": str(tensor), **rest} if not rest:
            return AddBias(tensor)
        case {"do": "resize", "tensor": str(tensor), "shape": list(shape), **rest} if not rest:
            try:
                return Resize(tensor, shape_of(shape))
            except ValueError as error:
                raise _damaged(entry) from error
        case {"do": "mend", "module": str(module), "attribute": str(attribute), "value": value, **rest} if not rest:
            # among sizes stand -1, of what is left, and places that count from the end
            fits = all(map(_is_place_or_size, value)) if isinstance(value, list) else _is_size(value)
            if fits and _is_name(attribute):
                return Mend(module, attribute, tuple(value) if isinstance(value, list) else value)
        case {"do": "adapt", "tensor": str(tensor), "rank": int(rank), "scaling": float(scaling), **rest} if not rest:
            if _is_size(rank) and 0 < rank <= MOST_RANK and math.isfinite(scaling):
                return Adapt(tensor, rank, scaling)
        case {"do": "untie", "tensor": str(tensor), **rest} if not rest:
            return Untie(tensor)
        case {"do": "slim", "module": str(module), "width": int(width), "eps": float(eps), **rest} if not rest:
            if _is_size(width) and width > 0 and math.isfinite(eps) and eps >= 0:
                return Slim(module, width, eps)
        case {"do": "rewire", "module": str(module), "steps": list(steps), "shapes": list(shapes), **rest} if not rest:
            return _rewired(entry, module, steps, shapes)
        case {"do": "drop", "container": str(container), "entries": list(entries), **rest} if not rest:
            if all(isinstance(name, str) for name in entries):
                return Drop(container, tuple(entries))
        case {
            "do": "skip",
            "module": str(module),
            "gives": list(gives),
            "alone": bool(alone),
            "zeros": bool(zeros),
            **rest,
        } if not rest:
            if all(map(_is_place, gives)) and (len(gives) == 1 or not alone):
                return Skip(module, tuple(gives), alone, zeros)
    raise _damaged(entry)


def _rewired(entry: object, module: str, steps: list[Any], shapes: list[Any]) -> Rewire:
    try:
        read = tuple(shape_of(shape) for shape in shapes)
        if any(len(shape) != 2 for shape in read):
            raise ValueError("no matrix")
        return Rewire(module, Rewire.parsed(steps), tuple((rows, columns) for rows, columns in read))
    except (ValueError, TypeError) as error:
        raise _damaged(entry) from error


def _is_name(attribute: str) -> bool:
    parts = attribute.split(".")
    return len(parts) <= 2 and all(part.isidentifier() and not part.startswith("_") for part in parts)


def _is_place(value: object) -> bool:
    return value is None or (_is_size(value) if type(value) is int else isinstance(value, str))


def _is_place_or_size(value: object) -> bool:
    return type(value) is int and abs(value) < 1 << 63


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_ELEMENTS


def _damaged(entry: object) -> CheckpointError:
    return CheckpointError(
        f"{str(entry)[:80]!r} is no action of a plan",
        where="secateur.json, key 'plan'",
        mend="the file was edited or is of a newer version: restore it, or upgrade secateur",
    )
