"""What counts as a decision of a pass, and how another pass is told it."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from .ir import Graph, tensors_in

_RANKING = ("topk", "sort", "max", "min")
_ROUNDING = ("floor", "ceil", "round", "trunc")


def decides(op: str, read: list[Tensor], gave: list[Tensor]) -> bool:
    """Whether an operation makes discrete values of continuous ones."""
    floats = any(t.is_floating_point() for t in read)
    return floats and (op in _ROUNDING or any(not t.is_floating_point() for t in gave))


def as_told(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], gave: tuple[Tensor, ...], result: Any) -> Any:
    """The decisions of another pass, with the own values at the numbers that they pick, in the form of the result."""
    outs = list(_told(op, args, kwargs, gave))
    return outs[0] if isinstance(result, Tensor) else type(result)(outs)


def _told(op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], gave: tuple[Tensor, ...]) -> Iterator[Tensor]:
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


def as_recorded(
    graph: Graph, number: int, op: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any
) -> Any:
    """What the recorded pass decided at a node, where it read tensors of these shapes; else the result as it is."""
    gave = graph.decisions.get(number)
    if gave is None or [tuple(t.shape) for t in tensors_in((args, dict(kwargs)))] != graph.taken[number]:
        return result
    return as_told(op, args, kwargs, gave, result)
