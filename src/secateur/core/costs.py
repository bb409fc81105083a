"""What a model costs: parameters, bytes and MACs of each of its parts, from one place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .space import Group, Space
from .task import first_call, in_eval_mode

Call = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class Layer:
    """One row of a cost table: a weight tensor, its module's MACs for the example, its zeros."""

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    nonzero: int
    bytes: int
    macs: int | None

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1 - self.nonzero / self.params if self.params else 0.0


def macs_by_module(model: nn.Module, example: Any, call: Call = first_call) -> dict[str, int]:
    """Multiply-accumulates of one forward pass, by the name of the module that runs them ("" is the whole model).

    Counted by `torch.utils.flop_counter`, as half its FLOPs; the model is run once in eval mode without gradients.

    Args:
        example: a batch as the task gives it, or the inputs alone (a tensor, a tuple, a mapping of arguments).
        call: how a batch becomes a model call, as in `Task`.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), in_eval_mode(model), counter:
        call(model, example)
    root = type(model).__name__
    counts: dict[str, int] = {}
    for name, by_op in counter.get_flop_counts().items():
        counts[_relative(name, root)] = sum(by_op.values()) // 2
    return counts


def _relative(name: str, root: str) -> str:
    if name in ("Global", root):
        return ""
    return name.removeprefix(root + ".")


def layers(model: nn.Module, example: Any | None = None, call: Call = first_call) -> list[Layer]:
    """A cost row for every parameter, tied ones once."""
    macs = macs_by_module(model, example, call) if example is not None else None
    kinds = {path: type(m).__name__ for path, m in model.named_modules()}
    rows = []
    for name, p in model.named_parameters():
        path = name.rpartition(".")[0]
        own = None if macs is None else (macs.get(path, 0) if p.dim() >= 2 else 0)
        nonzero = p.numel() if p.is_meta else int(torch.count_nonzero(p.detach()))
        rows.append(Layer(name, kinds[path], tuple(p.shape), p.numel(), nonzero, p.numel() * p.element_size(), own))
    return rows


def priced(space: Space, model: nn.Module, example: Any) -> Space:
    """The space with `macs` among the costs of its units: how often the example multiplies by a weight of the unit."""
    macs = macs_by_module(model, example)
    return space.replaced(costs={g.name: _with_macs(g, macs) for g in space if g.site is not None})


def _with_macs(group: Group, macs: Mapping[str, int]) -> dict[str, float]:
    assert group.site is not None
    uses = macs.get(group.site.name.rpartition(".")[0], 0) / max(group.site.tensor.numel(), 1)
    return {**group.costs, "macs": uses * group.costs.get("params", 1.0)}


def totals(model: nn.Module) -> dict[str, int]:
    """Parameters and non-zeros of the whole model, tied tensors once."""
    parameters: list[Tensor] = list(model.parameters())
    return {
        "params": sum(p.numel() for p in parameters),
        "nonzero": sum(int(torch.count_nonzero(p.detach())) for p in parameters),
    }
