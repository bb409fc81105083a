"""Depth: a module that gives back what it was given, and the actions that put it there or delete a layer for real."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Place = int | str
"""An argument of a call: its position, or its keyword."""
NUMBERS = ("layer_idx", "layer_id", "layer_index", "layer_number")
"""Attributes in which the modules of transformers and others keep the number of their layer."""


class Skipped(nn.Module):
    """Stands where a module was, without parameters: gives back some of its arguments, or zeros.

    Plain settings of the module that was there stay, because others may read them; its tensors are None.
    """

    def __init__(self, was: nn.Module, gives: tuple[Place | None, ...], alone: bool, zeros: bool) -> None:
        super().__init__()
        for name, value in vars(was).items():
            if not name.startswith("_") and isinstance(value, bool | int | float | str) and name not in NUMBERS:
                setattr(self, name, value)
        for name in was._parameters:
            self.register_parameter(name, None)
        self.gives, self.alone, self.zeros = gives, alone, zeros

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module's place in the model asks for: a tensor or a tuple, as the module gave it."""
        found: list[Any] = []
        for place in self.gives:
            found.append(None if place is None else args[place] if isinstance(place, int) else kwargs[place])
        if self.zeros:
            found = [torch.zeros_like(thing) if isinstance(thing, Tensor) else thing for thing in found]
        return found[0] if self.alone else tuple(found)

    def extra_repr(self) -> str:
        """What it gives."""
        return f"gives={self.gives}" + (", zeros" if self.zeros else "")


@dataclass(frozen=True)
class Skip:
    """The named module computes nothing any more.

    Attributes:
        gives: for each thing that it gives back, the argument of which it is a copy; None for None.
        alone: whether it gives one thing without a tuple around it.
        zeros: whether it gives zeros of that argument's shape instead.
    """

    module: str
    gives: tuple[Place | None, ...]
    alone: bool = True
    zeros: bool = False

    @property
    def tensor(self) -> str:
        """What it speaks of, for messages."""
        return self.module

    def replay_(self, model: nn.Module) -> None:
        parent, leaf = _place_of(model, self.module)
        was = parent._modules.get(leaf)
        if was is None:
            raise AttributeError(f"{self.module!r} is no module")
        parent._modules[leaf] = Skipped(was, self.gives, self.alone, self.zeros).train(was.training)


@dataclass(frozen=True)
class Drop:
    """Entries of the named `nn.Sequential` or `nn.ModuleList` are deleted; where they are numbered, others move up.

    A config of transformers on the modules around it that counts these entries follows, with its lists by layer.
    """

    container: str
    entries: tuple[str, ...]

    @property
    def tensor(self) -> str:
        """What it speaks of, for messages."""
        return self.container

    def replay_(self, model: nn.Module) -> None:
        held = model.get_submodule(self.container)
        if not isinstance(held, nn.Sequential | nn.ModuleList) or not held._modules.keys() >= set(self.entries):
            raise AttributeError(f"{self.container!r} has no such entries")
        before = list(held._modules)
        kept = [(name, module) for name, module in held._modules.items() if name not in self.entries]
        numbered = before == [str(i) for i in range(len(before))]
        held._modules.clear()
        held._modules.update((str(i) if numbered else name, m) for i, (name, m) in enumerate(kept))
        config = config_of(model, self.container, len(before))
        if config is not None:
            stays = [name not in self.entries for name in before]
            for name, value in layer_lists(config).items():
                setattr(config, name, type(value)(item for item, stay in zip(value, stays, strict=True) if stay))
            config.num_hidden_layers = len(kept)


def _place_of(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    if not path:
        raise AttributeError("the model itself cannot go")
    model.get_submodule(path)
    parent, _, leaf = path.rpartition(".")
    return model.get_submodule(parent), leaf


def config_of(model: nn.Module, path: str, layers: int) -> Any:
    """The config of transformers nearest to a module that counts so many layers; None where there is none."""
    while path:
        path = path.rpartition(".")[0]
        config: Any = getattr(model.get_submodule(path), "config", None)
        if hasattr(config, "num_hidden_layers"):
            # the config of an encoder and a decoder counts the layers of both, under names that differ by model
            known = config.num_hidden_layers == layers and not getattr(config, "is_encoder_decoder", False)
            return config if known else None
    return None


def layer_lists(config: Any) -> dict[str, Any]:
    """The lists of a config that have an entry for each layer."""
    return {
        name: value
        for name, value in vars(config).items()
        if isinstance(value, list | tuple) and "layer" in name and len(value) == config.num_hidden_layers
    }
