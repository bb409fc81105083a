"""Decisions of a pass: which numbers are the largest, which pass a threshold, which boxes stay, which expert is asked.

A decision that is nearly a tie is turned by round-off, and then two passes that are equal give different outputs. So
two models are compared with the decisions of one: the other is told them, and what it would have decided by is compared
too.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .align import Alignment
from .capture import tensors_in
from .ir import Graph
from .tap import Tap

_RANKING = ("topk", "sort", "max", "min")
_ROUNDING = ("floor", "ceil", "round", "trunc")


@dataclass(frozen=True, eq=False)
class Decision:
    """What an operation read, and what it gave; in the positions of the smaller model."""

    read: tuple[Tensor, ...]
    gave: tuple[Tensor, ...]


def decides(op: str, read: list[Tensor], gave: list[Tensor]) -> bool:
    """Whether an operation makes discrete values of continuous ones."""
    floats = any(t.is_floating_point() for t in read)
    return floats and (op in _ROUNDING or any(not t.is_floating_point() for t in gave))


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
        made = [tuple(t.shape) for t in tensors_in(result)]
        number = self._alignment.next(self.module, op, lambda number: self._gave(number) == made)
        if number is None or number not in self._decisions or self._gave(number) != made:
            return result
        read = tuple(tensors_in((args, kwargs)))
        self.read[number] = tuple(t.clone() for t in read if t.is_floating_point())
        outs = list(_as_told(op, args, kwargs, self._decisions[number].gave))
        return outs[0] if isinstance(result, Tensor) else type(result)(outs)

    def _gave(self, number: int) -> list[tuple[int, ...]]:
        known = self._decisions.get(number)
        return [] if known is None else [tuple(t.shape) for t in known.gave]


def _as_told(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], gave: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """The decisions of another pass, with the own values at the numbers that they pick."""
    if op in _RANKING and len(gave) == 2:
        place = 2 if op == "topk" else 1
        dim = args[place] if len(args) > place else kwargs.get("dim", -1)
        flat = gave[1].shape == gave[0].shape and gave[1].dim() < args[0].dim()
        numbers = gave[1].unsqueeze(dim) if flat else gave[1]
        own = args[0].gather(dim, numbers)
        yield own.squeeze(dim) if flat else own
        yield gave[1].clone()
        return
    for tensor in gave:
        yield tensor.clone()


def collected(decisions: Mapping[int, Decision], read: Mapping[int, tuple[Tensor, ...]]) -> list[list[Tensor]]:
    """What both passes decided by, side by side, for the decisions that both made."""
    both = [number for number in decisions if number in read]
    first = [t for number in both for t in decisions[number].read if t.is_floating_point()]
    return [first, [t for number in both for t in read[number]]]


__all__ = ["Decision", "Told", "collected", "decides"]
