"""What each name in a graph of ONNX is: a constant, a tensor, or a formula of sizes and constants."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

import onnx
from onnx import numpy_helper

from .attributes import constant_of
from .formulas import FORMULAS, Constant, Formula, value_of
from .values import dtype_of, tensor_of

_SMALL = 64
_HUGE = 1e4


class NamedTensor:
    """A tensor of the graph in a formula, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name


class Known:
    """The constants and formulas of a graph, by the names of the values that they are.

    Attributes:
        constants: initializers and what nodes called Constant give.
        formulas: those of the nodes before the one that is being read.
        uses: which node takes a value at which place.
        loose: constants that several nodes take and that are one number over and over, so that nothing ties them.
        shared: the tensor of an initializer, as it is or turned.
    """

    def __init__(self, graph: onnx.GraphProto, where: str) -> None:
        self._graph, self._where = graph, where
        self.constants = self._all_constants()
        self._initializers = {t.name for t in graph.initializer}
        self.formulas: dict[str, Formula] = {}
        self.uses = self._all_uses()
        self.loose = {name for name, uses in self.uses.items() if len(uses) > 1 and self._is_uniform(name)}
        self.shared: dict[tuple[str, bool], Tensor] = {}
        self._fixed: dict[int, bool] = {}

    def _all_constants(self) -> dict[str, np.ndarray]:
        found = {}
        for tensor in self._graph.initializer:
            dtype_of(tensor.data_type, f"initializer {tensor.name!r} of {self._where}")
            found[tensor.name] = numpy_helper.to_array(tensor)
        for node in self._graph.node:
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                found[node.output[0]] = constant_of(node, self._where)
        return found

    def _all_uses(self) -> dict[str, list[tuple[onnx.NodeProto, int]]]:
        found: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self._graph.node:
            for place, name in enumerate(node.input):
                found.setdefault(name, []).append((node, place))
        return found

    def _is_uniform(self, name: str) -> bool:
        """Whether a value is one number over and over: exporters store one such for all norms, which nothing ties."""
        array = self.constants.get(name)
        return (
            array is not None and array.dtype.kind in "fV" and array.size > 1 and bool((array == array.flat[0]).all())
        )

    def _is_small(self, name: str) -> bool:
        array = self.constants[name]
        return array.size == 1 or (array.dtype.kind in "iub" and array.ndim <= 1 and array.size <= _SMALL)

    def is_formula(self, node: onnx.NodeProto) -> bool:
        """Whether all that a node takes is small, or it reads a shape."""
        if node.op_type not in FORMULAS or node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type in ("Shape", "Size"):
            return True
        if node.op_type == "ConstantOfShape" and any(a.t.data_type in (1, 10, 11, 16) for a in node.attribute):
            return False
        if node.op_type == "ConstantOfShape" and not node.attribute:
            return False
        return all(
            not name or name in self.formulas or (name in self.constants and self._is_small(name))
            for name in node.input
        )

    def enter_formulas(self, number: int, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
        parts = tuple(self._formula_part(name) for name in node.input)
        for out, name in enumerate(node.output):
            self.formulas[name] = Formula(number, node.op_type, attributes, parts, out, len(node.output))

    def _formula_part(self, name: str) -> Any:
        """A part of the formula as the file has it: its constants and tensors are told by their names."""
        if not name:
            return None
        if name in self.formulas:
            return self.formulas[name]
        if name in self.constants and self._is_small(name):
            return Constant(name, name, self.constants[name].dtype, self.constants[name].shape)
        return NamedTensor(name)

    def tensor(self, source: str) -> Tensor:
        """The parameter or buffer of an initializer: one, whoever uses it, unless it is one number over and over."""
        if (source, False) not in self.shared or source in self.loose:
            value = tensor_of(self.constants[source])
            statistic = any(n.op_type == "BatchNormalization" and place > 2 for n, place in self.uses.get(source, ()))
            learnt = not statistic and source in self._initializers and value.is_floating_point() and value.numel() > 1
            learnt = learnt and bool((value.abs() < _HUGE).all())  # not so a mask of what is not attended to
            self.shared[source, False] = nn.Parameter(value) if learnt else value
        return self.shared[source, False]

    def is_fixed(self, part: Any) -> bool:
        """Whether a formula reads no tensor."""
        if id(part) not in self._fixed:
            reads = isinstance(part, Formula) and not all(map(self.is_fixed, part.parts))
            self._fixed[id(part)] = not reads and not isinstance(part, NamedTensor)
        return self._fixed[id(part)]

    def folded(self, formula: Formula) -> np.ndarray:
        """The value of a formula of constants alone."""
        return np.asarray(value_of(formula, _Values(self.constants), ()))

    def output_of(self, formula: Formula) -> str:
        """The name of the value that a formula is in the graph."""
        return str(self._graph.node[formula.node].output[formula.out])

    def fill(self, name: str) -> tuple[str, Any]:
        """What an input of a node is: "none", "value", "formula", "small" or "tensor"."""
        if not name:
            return "none", None
        if name in self.formulas:
            return "formula", self.formulas[name]
        if name in self.constants:
            return ("small" if self._is_small(name) else "tensor"), self.constants[name]
        return "value", None


class _Values:
    """Holds constants under their names in the graph."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> np.ndarray:
        return self._values[name]
