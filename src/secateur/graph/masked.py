"""The dense model as if some factors were gone: whoever would read their positions reads zeros.

This is what the smaller model must equal. It shares no code with the surgery: it runs the model as it is, on real
tensors, and sets to zero, directly before each operation that contracts a dimension, the positions that are to go.
Where an operation computes something over all positions (a mean, a norm) it is run on those that stay.
"""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from .align import Alignment
from .capture import Call, still
from .coupling import Coupling, Gone
from .deciding import as_recorded, decides
from .decisions import Decision
from .ir import Node, Ref, kind_of, refs, tensors_in
from .litter import Litter
from .tap import COMPOSITES, Tap


class Astray(Exception):
    """The pass did other operations than the recorded one."""


class MaskedPass(Tap):
    """One pass of the dense model with consumers reading zeros.

    Args:
        litter: random numbers where layers make what goes.
        in_weights: multiply what goes by zero instead of reading zero, where the weights are smaller than what they
            read: the same, as long as what goes is finite.
        deciding: keep what the pass decides, and by what.
        as_recorded: decide what the recorded pass did, wherever nothing of it goes.

    Attributes:
        only_composites: whether it is enough to see composite operations: nothing else reads or makes what goes.
    """

    def __init__(
        self,
        model: nn.Module,
        coupling: Coupling,
        gone: Gone,
        *,
        litter: Litter | None,
        in_weights: bool,
        deciding: bool = False,
        as_recorded: bool = False,
    ) -> None:
        super().__init__(model)
        self._alignment = Alignment(coupling.graph)
        self._coupling, self._gone, self._litter, self._in_weights = coupling, gone, litter, in_weights
        notes = coupling.flow.notes
        self._acting = {*notes.consumed, *notes.statistics, *(litter.outputs if litter is not None else ())}
        acting = [coupling.graph.nodes[number] for number in self._acting]
        self._kinds = {kind_of(node.module, node.op) for node in acting}
        self._all_count = deciding or as_recorded
        self.only_composites = not self._all_count and {n.op for n in acting} <= {*COMPOSITES.values()}
        self.decisions: dict[int, Decision] = {}
        self._deciding, self._as_recorded = deciding, as_recorded
        self._known: dict[tuple[int, int], Tensor | None] = {}

    def operation(self, op: str, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self._all_count and kind_of(self.module, op) not in self._kinds:
            return func(*args, **kwargs)
        shapes = [tuple(t.shape) for t in tensors_in((args, kwargs))]
        number = self._alignment.next(self.module, op, lambda number: self._takes(number, shapes))
        if number is None:
            return func(*args, **kwargs)
        node = self._coupling.graph.nodes[number]
        if number in self._coupling.flow.notes.statistics:
            return self._over_those_that_stay(number, node, func, args, kwargs)
        reads = self._coupling.flow.notes.consumed.get(number)
        if reads and self._in_weights and (weighed := self._weighed(op, args, reads)) is not None:
            args = weighed
        elif reads:
            args, kwargs = _parallel(
                (node.args, dict(node.kwargs)), (args, kwargs), lambda v, t: self._zeroed(v, t, reads)
            )
        result = func(*args, **kwargs)
        if self._litter is not None and number in self._litter.outputs:
            result = self._litter.in_output(number, result)
        if self._as_recorded and self._is_whole(node):
            result = as_recorded(self._coupling.graph, number, op, args, kwargs, result)
        if self._deciding:
            taken = _parallel((node.args, dict(node.kwargs)), (args, kwargs), self._shrunk)
            outs = [self._shrunk(v, t) for v, t in zip(node.outs, tensors_in(result), strict=False)]
            self._keep(number, op, taken, outs)
        return result

    def _is_whole(self, node: Node) -> bool:
        """Whether no position goes of what an operation takes and gives."""
        values = chain(refs((node.args, dict(node.kwargs))), node.outs)
        return all(self._stays(v, d) is None for v in values for d in range(len(self._coupling.flow.shape(v))))

    def _keep(self, number: int, op: str, taken: Any, gave: list[Tensor]) -> None:
        read = list(tensors_in(taken))
        if decides(op, read, gave):
            self.decisions[number] = Decision(tuple(t.clone() for t in read), tuple(t.clone() for t in gave))

    def _takes(self, number: int, shapes: list[tuple[int, ...]]) -> bool:
        """Whether a recorded operation took tensors of these shapes."""
        return self._coupling.graph.taken[number] == shapes

    def finish(self) -> None:
        """Raise `Astray` if an operation that reads labelled positions never ran."""
        missing = self._acting - self._alignment.ran
        if missing:
            node = self._coupling.graph.nodes[min(missing)]
            raise Astray(f"{node.op!r} of module {node.module!r} did not run, which the recorded pass did")

    def _stays(self, value: int, dim: int) -> Tensor | None:
        """Positions of a dimension that stay; None where all do."""
        if (value, dim) not in self._known:
            self._known[value, dim] = self._find_stays(value, dim)
        return self._known[value, dim]

    def _find_stays(self, value: int, dim: int) -> Tensor | None:
        labels = self._coupling.flow.dim(value, dim)
        if labels is None:
            return None
        stays = self._coupling.stays(labels, len(labels), self._gone)
        return None if stays.all() else torch.from_numpy(stays)

    def _zeroed(self, value: int, tensor: Tensor, reads: list[tuple[int, int]]) -> Tensor:
        for read, dim in reads:
            stays = self._stays(value, dim) if read == value else None
            if stays is not None:
                self._check_length(tensor, dim, stays)
                tensor = tensor.index_fill(dim, (~stays).nonzero().flatten().to(tensor.device), 0)
        return tensor

    def _weighed(self, op: str, args: tuple[Any, ...], reads: list[tuple[int, int]]) -> tuple[Any, ...] | None:
        """The arguments of a plain layer with zeros in its weight, at the positions of its *input* that go."""
        if op not in ("linear", "conv") or len(reads) != 1 or len(args) < 2 or args[1].dim() < 2:
            return None
        stays = self._stays(*reads[0])
        if stays is None or args[1].shape[1] != len(stays) or args[1].numel() >= args[0].numel():
            return None
        self._check_length(args[0], reads[0][1], stays)
        return (args[0], args[1].index_fill(1, (~stays).nonzero().flatten().to(args[1].device), 0), *args[2:])

    def _check_length(self, tensor: Tensor, dim: int, stays: Tensor) -> None:
        if tensor.shape[dim] != len(stays):
            raise Astray(f"dimension {dim} has {tensor.shape[dim]} positions, and {len(stays)} were recorded")

    def _over_those_that_stay(
        self, number: int, node: Node, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        dense = self._coupling.flow.shape
        args, kwargs = _parallel((node.args, dict(node.kwargs)), (args, kwargs), self._selected)
        if node.op in ("layer_norm", "rms_norm"):
            size = len(args[1])
            args = (args[0], list(args[0].shape[-size:]), *args[2:])
        elif node.op == "group_norm":
            stays = self._stays(node.args[0].value, 1)
            if stays is not None:
                args = (args[0], int(stays.reshape(args[1], -1).any(1).sum()), *args[2:])
        result = func(*args, **kwargs)
        if self._deciding:
            self._keep(number, node.op, (args, kwargs), list(tensors_in(result)))
        if node.op in ("topk", "argmax"):
            result = self._numbered(node, result)
        outs = [self._scattered(v, t, dense(v)) for v, t in zip(node.outs, tensors_in(result), strict=False)]
        return outs[0] if isinstance(result, Tensor) else type(result)(outs)

    def _numbered(self, node: Node, result: Any) -> Any:
        """What was chosen of those that stay, by their numbers among all."""
        rank = len(self._coupling.flow.shape(node.args[0].value))
        given = dict(zip(("k", "dim") if node.op == "topk" else ("dim",), node.args[1:], strict=False)) | dict(
            node.kwargs
        )
        stays = self._stays(node.args[0].value, given.get("dim", -1) % rank)
        if stays is None:
            return result
        where = stays.nonzero().flatten()
        numbers = where.to((result[1] if node.op == "topk" else result).device)
        return (result[0], numbers[result[1]]) if node.op == "topk" else numbers[result]

    def _shrunk(self, value: int, tensor: Tensor) -> Tensor:
        """The positions that stay; a tensor of another shape than the recorded one is another tensor."""
        return self._selected(value, tensor) if tuple(tensor.shape) == self._coupling.flow.shape(value) else tensor

    def _selected(self, value: int, tensor: Tensor) -> Tensor:
        for dim in range(tensor.dim()):
            stays = self._stays(value, dim)
            if stays is not None:
                self._check_length(tensor, dim, stays)
                tensor = tensor.index_select(dim, stays.nonzero().flatten().to(tensor.device))
        return tensor

    def _scattered(self, value: int, tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
        for dim in range(tensor.dim()):
            stays = self._stays(value, dim)
            if stays is not None:
                whole = [*tensor.shape[:dim], shape[dim], *tensor.shape[dim + 1 :]]
                where = stays.nonzero().flatten().to(tensor.device)
                tensor = tensor.new_zeros(whole).index_copy(dim, where, tensor)
        return tensor


def _parallel(recorded: Any, given: Any, change: Callable[[int, Tensor], Tensor]) -> Any:
    """The given arguments with each tensor changed, told the value that it was when the pass was recorded."""
    if isinstance(recorded, Ref):  # a mask made for fake tensors may be left out for real ones
        return change(recorded.value, given) if isinstance(given, Tensor) else given
    if isinstance(recorded, tuple | list) and isinstance(given, tuple | list):
        if len(recorded) != len(given):  # sizes of an expansion, in a pass that makes its masks otherwise
            if any(True for _ in tensors_in(given)):
                raise Astray(f"an operation took {len(given)} arguments, and {len(recorded)} were recorded")
            return given
        made = [_parallel(r, g, change) for r, g in zip(recorded, given, strict=True)]
        return made if isinstance(given, list) else tuple(made)
    if isinstance(recorded, dict) and isinstance(given, dict):
        return {key: _parallel(recorded.get(key), item, change) for key, item in given.items()}
    return given


def masked_outputs(
    model: nn.Module, call: Call, coupling: Coupling, gone: Gone, *, garbage: int | None = None
) -> list[Tensor]:
    """What the dense model gives when the positions of these factors are read as zeros.

    Args:
        call: as the one that was recorded, on inputs of the same shapes.
        garbage: a seed; what produces the removed positions is then overwritten with large random numbers, which must
            change nothing.

    Raises:
        Astray: the pass does other operations than the recorded one.
    """
    return _masked(model, call, coupling, gone, garbage, deciding=False)[0]


def masked_decisions(
    model: nn.Module,
    call: Call,
    coupling: Coupling,
    gone: Gone,
    *,
    garbage: int | None = None,
    as_recorded: bool = False,
) -> tuple[list[Tensor], dict[int, Decision]]:
    """`masked_outputs`, and the decisions of the pass by node.

    Args:
        as_recorded: whether these are the recorded ones, wherever nothing of them goes.
    """
    return _masked(model, call, coupling, gone, garbage, deciding=True, as_recorded=as_recorded)


def _masked(
    model: nn.Module,
    call: Call,
    coupling: Coupling,
    gone: Gone,
    garbage: int | None,
    *,
    deciding: bool,
    as_recorded: bool = False,
) -> tuple[list[Tensor], dict[int, Decision]]:
    litter = None if garbage is None else Litter(coupling, gone, garbage)
    how = {"deciding": deciding, "as_recorded": as_recorded}
    for in_weights in (True, False):
        masked = MaskedPass(model, coupling, gone, litter=litter, in_weights=in_weights, **how)
        littered = nullcontext() if litter is None else litter.in_tensors(model)
        with still(model), littered, masked.open(only_composites=masked.only_composites):
            found = list(tensors_in(call(model)))
            masked.finish()
        if garbage is None or all(bool(t.isfinite().all()) for t in found):
            break  # garbage that grew beyond all bounds is not nothing when it is multiplied by zero
    return found, masked.decisions


__all__ = ["Astray", "MaskedPass", "masked_decisions", "masked_outputs"]
