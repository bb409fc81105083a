"""An ONNX graph as a module of torch: one module for each node, run one after another."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import onnx
from secateur.core import Described, SubjectError

from .formulas import Part, value_of
from .operators import Operator
from .values import Value, numbers_of, tensor_of


class Operation(nn.Module):
    """One node of the graph: its weights are parameters, its attributes and the sizes it is given are attributes.

    Attributes:
        op: the operator.
        wanted: how many of its outputs are read.
    """

    single_operation = True

    def __init__(self, op: str, title: str, operator: Operator, wanted: int) -> None:
        super().__init__()
        self.op, self.title, self.wanted = op, title, wanted
        self._operator = operator
        self._slots: tuple[Part | str, ...] = ()
        self._names: dict[str, str] = {}
        self._as_read: dict[str, Any] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute of the node; a default where the file leaves it out."""
        return vars(self).get(self._names.get(name, name), default)

    def inputs(self, given: Sequence[Any]) -> list[Any]:
        """What the operator takes: tensors, and numbers where it wants numbers."""
        known: dict[int, Any] = {}
        found: list[Any] = [
            getattr(self, slot) if isinstance(slot, str) else value_of(slot, self, given, known) for slot in self._slots
        ]
        ranks = [v.dim() for v in found if isinstance(v, Tensor)]
        for place, value in enumerate(found):
            name = self._operator.name(place)
            if name in self._operator.raw:
                continue
            if name in self._operator.numbers:
                found[place] = numbers_of(value)
            elif isinstance(value, np.ndarray | np.generic):
                array = np.asarray(value)
                plain = self._operator.scalars and array.size == 1 and ranks and array.ndim <= max(ranks)
                found[place] = array.item() if plain and array.dtype.name != "bfloat16" else tensor_of(array)
        return found

    def forward(self, *given: Any) -> Any:
        return self._operator.run(self, *self.inputs(given))

    def extra_repr(self) -> str:
        return self.title


@cache
def operation_of(op: str) -> type[Operation]:
    """The class of an operator: what a cut changes in one operation is tried in others of its class."""
    return type(op, (Operation,), {})


@dataclass(frozen=True)
class Input:
    """An input of a graph: its type, and its sizes, of which some have a name or nothing."""

    name: str
    dtype: torch.dtype
    shape: tuple[int | str | None, ...] | None


@dataclass(eq=False)
class Step:
    """One module of a pass: the values that it takes and gives, and those that nobody reads afterwards."""

    module: nn.Module
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    drops: tuple[str, ...] = ()


class OnnxModel(Described):
    """The graph of an ONNX file; `sc.onnx.read` makes it.

    It takes the inputs of the graph, in order or by name, and gives its output, or a tuple of them.

    Attributes:
        inputs: that have to be given.
        outputs: names of what it gives.
    """

    def __init__(self, inputs: Sequence[Input], outputs: Sequence[str]) -> None:
        super().__init__()
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._steps: list[Step] = []
        self._source: Any = None
        self._last: dict[str, Tensor] = {}

    @property
    def samples(self) -> int | None:
        """How many samples it takes at once, where the file fixes that at more than one."""
        first = next((i.shape[0] for i in self.inputs if i.shape), None)
        return first if isinstance(first, int) and first > 1 else None

    def forward(self, *given: Value, **named: Value) -> Any:
        values: dict[str, Any] = dict(zip((i.name for i in self.inputs), given, strict=False)) | named
        missing = [i.name for i in self.inputs if i.name not in values]
        if missing or len(given) > len(self.inputs):
            raise SubjectError(
                f"{len(given) + len(named)} inputs were given; it takes {', '.join(i.name for i in self.inputs)}",
                where=type(self).__name__,
                mend="give them in this order, or by name in a mapping",
            )
        self._remember(values)
        device = next((v.device for v in values.values() if isinstance(v, Tensor)), torch.device("cpu"))
        with nullcontext() if device.type == "cpu" else device:
            for step in self._steps:
                made = step.module(*(values[name] for name in step.takes))
                made = made if isinstance(made, tuple) else (made,)
                values.update(zip(step.gives, made, strict=False))
                for name in step.drops:
                    values.pop(name, None)
        found = tuple(values[name] for name in self.outputs)
        return found[0] if len(found) == 1 else found

    def _remember(self, values: Mapping[str, Any]) -> None:
        """Inputs that the model ran on: a file is verified with such."""
        if all(isinstance(v, Tensor) and not isinstance(v, FakeTensor) for v in values.values()):
            self._last = {name: v.detach() for name, v in values.items()}

    def example_inputs(self, seed: int = 0) -> dict[str, Tensor]:
        """Inputs of the shapes that the graph names; a size that is not known is a small one.

        Raises:
            SubjectError: the shape of an input is not known at all.
        """
        from .example import example_of

        return example_of(self, seed)

    def last_inputs(self) -> dict[str, Tensor]:
        """The inputs of its last pass; before the first one, an example."""
        return dict(self._last) or self.example_inputs()

    def proto(self) -> onnx.ModelProto:
        """The graph as a message of onnx, with the weights and sizes of now."""
        from .writing import proto_of

        return proto_of(self)


class Scope(nn.Module):
    """Modules whose names begin alike."""


__all__ = ["Input", "OnnxModel", "Operation", "Scope", "Step", "operation_of"]
