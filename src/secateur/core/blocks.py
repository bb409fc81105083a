"""The repeated module that a layer lies in, what goes into it and what comes out, and how far apart the two are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .space import Group
from .stats import State, Statistic, summed


def block_around(modules: Mapping[str, nn.Module], path: str) -> str:
    """The path of the innermost module around another that its container holds several of; empty where there is none.

    Args:
        modules: all modules by name.
        path: of a module, such as "layer2.0.conv1", which lies in "layer2.0".
    """
    return max(_blocks_around(modules, path), key=len, default="")


@dataclass(frozen=True)
class Place:
    """Where a block stands in its run, the list of blocks that follow each other.

    Attributes:
        run: the path of the list.
        number: of the block, from 0.
        length: how many blocks the list holds.
    """

    run: str
    number: int
    length: int


def place_of(modules: Mapping[str, nn.Module], path: str) -> Place | None:
    """Where the outermost block around a module stands; None where it lies in none.

    Outermost, so that the experts of a block, which repeat as well, are no run of their own.
    """
    name = min(_blocks_around(modules, path), key=len, default="")
    if not name:
        return None
    run = name.rpartition(".")[0]
    blocks = [child for child in modules[run].children() if any(child.children())]
    return Place(run, next(i for i, block in enumerate(blocks) if block is modules[name]), len(blocks))


def _blocks_around(modules: Mapping[str, nn.Module], path: str) -> Iterator[str]:
    """The paths of the modules around another, or it, that their containers hold several of."""
    parts = path.split(".")
    for depth in range(len(parts), 0, -1):
        name = ".".join(parts[:depth])
        module, parent = modules.get(name), modules.get(".".join(parts[: depth - 1]))
        if module is None or not isinstance(parent, nn.Sequential | nn.ModuleList) or not any(module.children()):
            continue
        if sum(type(child) is type(module) for child in parent) > 1:
            yield name


@dataclass(frozen=True)
class BlockPass:
    """The block around a group's layer ran on a batch: the angle between each token before and after it, over pi.

    Attributes:
        distances: in [0, 1]; 0.5 where a token is all zeros.
    """

    distances: Float[Tensor, " tokens"]


def angular_distances(before: Float[Tensor, "... d"], after: Float[Tensor, "... d"]) -> Float[Tensor, " tokens"]:
    """arccos(cos(x, y)) / pi of every token, in float64."""
    x, y = (t.detach().double().flatten(0, -2) for t in (before, after))
    lengths = (x.norm(dim=1) * y.norm(dim=1)).clamp_min(torch.finfo(torch.float64).tiny)
    distances: Tensor = ((x * y).sum(1) / lengths).clamp(-1, 1).arccos() / torch.pi
    return distances


@dataclass(frozen=True)
class AngularDistance(Statistic):
    """How far the block around a layer turns the tokens: `[2]`, the mean of `BlockPass`, and the number of tokens."""

    on = BlockPass

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "tokens": torch.zeros(())}

    def update(self, state: State, event: Any) -> State:
        assert isinstance(event, BlockPass)
        total = event.distances.sum().reshape(1)
        return {"sum": state["sum"].to(total.device) + total, "tokens": state["tokens"] + len(event.distances)}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        tokens = state["tokens"].to(state["sum"])
        return torch.cat((state["sum"] / tokens, tokens.reshape(1)))
