"""The inputs of one operation that is read: its own weights, constants and formulas, and what it takes at run time."""

from typing import Any

import numpy as np
from torch import nn

from .formulas import Constant, Formula, Given, Part
from .known import Known, NamedTensor
from .layers import Held
from .model import Operation
from .names import legal


class Filler:
    """Fills the slots of one operation; its formulas and their constants become its own."""

    def __init__(self, known: Known, module: Operation, path: str, number: int) -> None:
        self._known, self._module, self._path, self._number = known, module, path, number
        self.held: list[Held] = []
        self.takes: list[str] = []
        self._copies: dict[int, Part] = {}

    def slot(self, name: str, wanted: str, place: int) -> Part | str:
        kind, held = self._known.fill(name)
        if kind == "value":
            return self._given(name)
        if kind == "small":
            return self._constant(name, held, legal(wanted))
        if kind == "tensor":
            return self._weight(name, legal(wanted), place)
        if kind == "formula":
            return self._formula(held, name, legal(wanted))
        return None

    def _given(self, name: str) -> Given:
        if name not in self.takes:
            self.takes.append(name)
        return Given(self.takes.index(name))

    def _constant(self, source: str, array: np.ndarray, attribute: str) -> Constant:
        attribute = self._free(attribute)
        plain = array.reshape(-1).tolist() if array.ndim else array.item()
        vars(self._module)[attribute] = tuple(plain) if isinstance(plain, list) else plain
        return Constant(attribute, source, array.dtype, array.shape if array.ndim > 1 else None)

    def _free(self, attribute: str) -> str:
        found, k = attribute, 0
        while hasattr(self._module, found):
            k += 1
            found = f"{attribute}_{k}"
        return found

    def _weight(self, source: str, leaf: str, place: int) -> str:
        leaf, tensor = self._free(leaf), self._known.tensor(source)
        if isinstance(tensor, nn.Parameter):
            self._module.register_parameter(leaf, tensor)
        else:
            self._module.register_buffer(leaf, tensor)
        self.held.append(Held(source, self._path, leaf, self._number, place))
        return leaf

    def _formula(self, formula: Formula, name: str, attribute: str) -> Part:
        """A copy of its own; one of constants alone is a constant."""
        if self._known.is_fixed(formula):
            return self._constant(name, self._known.folded(formula), attribute)
        return self._copied(formula, attribute)

    def _copied(self, part: Any, attribute: str) -> Part:
        if id(part) not in self._copies:
            self._copies[id(part)] = self._copy(part, attribute)
        return self._copies[id(part)]

    def _copy(self, part: Any, attribute: str) -> Part:
        if part is None:
            return None
        if isinstance(part, NamedTensor):
            return self._given(part.name)
        if isinstance(part, Constant):
            return self._constant(part.source, self._known.fill(part.source)[1], attribute)
        if self._known.is_fixed(part):
            return self._constant(self._known.output_of(part), self._known.folded(part), attribute)
        parts = tuple(self._copied(p, attribute) for p in part.parts)
        return Formula(part.node, part.op, part.attributes, parts, part.out, part.outs)
