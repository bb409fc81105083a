"""Decisions of a pass: which numbers are the largest, which pass a threshold, which boxes stay, which expert is asked.

A decision that is nearly a tie is turned by round-off, and then two passes that are equal give different outputs. So
two models are compared with the decisions of one: the other is told them, and what it would have decided by is compared
too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .align import Alignment
from .deciding import as_told, decides
from .ir import Graph, tensors_in
from .tap import Tap


@dataclass(frozen=True, eq=False)
class Decision:
    """What an operation read, and what it gave; in the positions of the smaller model."""

    read: tuple[Tensor, ...]
    gave: tuple[Tensor, ...]


class Told(Tap):
    """A pass that is told its decisions.

    Attributes:
        read: floating point numbers that the pass would have decided by, in the order of the operations.
    """

    def __init__(self, model: nn.Module, graph: Graph, decisions: Mapping[int, Decision]) -> None:
        super().__init__(model)
        self._decisions, self._alignment = decisions, Alignment(graph)
        self.read: dict[int, tuple[Tensor, ...]] = {}

    def operation(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        read = tuple(tensors_in((args, kwargs)))
        shapes = [tuple(t.shape) for t in read]
        deciding = decides(op, list(read), list(tensors_in(result)))

        def alike(number: int) -> bool:
            return self._read(number) == shapes if deciding else number not in self._decisions

        number = self._alignment.next(self.module, op, alike)
        if not deciding or number is None or self._read(number) != shapes:
            return result
        self.read[number] = tuple(t.clone() for t in read if t.is_floating_point())
        return as_told(op, args, kwargs, self._decisions[number].gave, result)

    def _read(self, number: int) -> list[tuple[int, ...]] | None:
        known = self._decisions.get(number)
        return None if known is None else [tuple(t.shape) for t in known.read]


def collected(decisions: Mapping[int, Decision], read: Mapping[int, tuple[Tensor, ...]]) -> list[list[Tensor]]:
    """What both passes decided by, side by side, for the decisions that both made."""
    both = [number for number in decisions if number in read]
    first = [t for number in both for t in decisions[number].read if t.is_floating_point()]
    return [first, [t for number in both for t in read[number]]]
