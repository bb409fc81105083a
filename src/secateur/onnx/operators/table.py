"""The table of operators: a function of torch for each, by name and by the opset since which it means that."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Run = Callable[..., Any]


@dataclass(frozen=True)
class Operator:
    """What one operator does.

    Attributes:
        run: takes the operation, whose attributes it reads, and the inputs; gives a tensor, or a tuple of them.
        since: the first opset in which it means this.
        names: of the inputs, which become names of attributes and parameters of the operation.
        many: whether any number of inputs may follow.
        numbers: inputs that are wanted as plain numbers; raw: as they are, tensors or arrays.
        scalars: whether constants of one element may be plain numbers, as torch's arithmetic takes them.
    """

    run: Run
    since: int
    names: tuple[str, ...]
    many: bool
    numbers: frozenset[str]
    raw: frozenset[str]
    scalars: bool

    def name(self, place: int) -> str:
        """The name of an input."""
        return self.names[place] if place < len(self.names) else f"input_{place}"


TABLE: dict[tuple[str, str], list[Operator]] = {}
"""By domain and name, the versions."""


def operator(
    *ops: str, since: int = 1, numbers: str = "", raw: str = "", scalars: bool = False, domain: str = ""
) -> Callable[[Run], Run]:
    """Enters a function into the table.

    Args:
        ops: names of the operators that it computes.
        numbers, raw: names of inputs that it takes so, separated by spaces.
    """

    def enter(run: Run) -> Run:
        parameters = list(inspect.signature(run).parameters.values())[1:]
        many = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        names = tuple(p.name for p in parameters if p.kind is not p.VAR_POSITIONAL)
        for op in ops:
            versions = TABLE.setdefault((domain, op), [])
            versions.append(
                Operator(run, since, names, many, frozenset(numbers.split()), frozenset(raw.split()), scalars)
            )
            versions.sort(key=lambda v: v.since)
        return run

    return enter


def find(op: str, version: int, domain: str = "") -> Operator | None:
    """What an operator does in an opset; None where it is not known."""
    versions = [v for v in TABLE.get(("" if domain == "ai.onnx" else domain, op), []) if v.since <= version]
    return versions[-1] if versions else None
