"""What a model costs: parameters, bytes and MACs of each of its parts, from one place."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .errors import SecateurError, does_not_run
from .space import Group, Space
from .task import first_call, in_eval_mode

Call = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True)
class Layer:
    """One row of a cost table: a weight tensor, its share of its module's MACs for the example, its zeros."""

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

    Raises:
        SubjectError: the model does not run on the example.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused transformer layer is one operation, counted as none
    try:
        with torch.no_grad(), in_eval_mode(model), _frozen(model), counter:
            call(model, example)
    except SecateurError:
        raise
    except Exception as error:  # a forward function raises whatever it likes
        raise does_not_run(model, error) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    root = type(model).__name__
    counts: dict[str, int] = {}
    for name, by_op in counter.get_flop_counts().items():
        counts[_relative(name, root)] = sum(by_op.values()) // 2
    return counts


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """While it lasts, no parameter asks for gradients: the counter would look for those of their views, in vain."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    for parameter in learnt:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learnt:
            parameter.requires_grad_(True)


def _grouped_flops(rows: tuple[int, ...], weights: tuple[int, ...], *_: object, **__: object) -> int:
    """Of one product for each group of rows, as experts make it: every row meets one matrix."""
    return 2 * math.prod(rows) * weights[-1]


def _recurrent_flops(
    x: tuple[int, ...], w_input: tuple[int, ...], w_hidden: tuple[int, ...], *_: object, **__: object
) -> int:
    """Of one direction of one layer, which oneDNN runs as one operation: every weight once per step and sequence."""
    return 2 * math.prod(x[:-1]) * (math.prod(w_input) + math.prod(w_hidden))


def _attention_flops(q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], *_: object, **__: object) -> int:
    """Of queries `[batch, heads, n, d]` against keys, and of the shares against values."""
    return 2 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


_FORMULAS = {
    torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops,
    torch.ops.aten._grouped_mm: _grouped_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}
"""What torch's own counter leaves out."""


def _own(macs: Mapping[str, int]) -> dict[str, int]:
    """What each module multiplies itself, without the modules in it."""
    own = dict(macs)
    for name in macs:
        parent = name
        while parent:
            parent = parent.rpartition(".")[0]
            if parent in macs:
                own[parent] -= macs[name]
                break
    return own


def _macs_of_matrices(model: nn.Module, macs: Mapping[str, int]) -> dict[str, float]:
    """MACs of each parameter of two or more dimensions; those of one module share its MACs by size."""
    own = _own(macs)
    matrices = {n: p.numel() for n, p in model.named_parameters(remove_duplicate=False) if p.dim() >= 2}
    sizes: dict[str, int] = {}
    for name, size in matrices.items():
        path = name.rpartition(".")[0]
        sizes[path] = sizes.get(path, 0) + size
    paths = {name: name.rpartition(".")[0] for name in matrices}
    return {n: own.get(paths[n], 0) * size / max(sizes[paths[n]], 1) for n, size in matrices.items()}


def _relative(name: str, root: str) -> str:
    if name in ("Global", root):
        return ""
    return name.removeprefix(root + ".")


def layers(
    model: nn.Module,
    example: Any | None = None,
    call: Call = first_call,
    known: Mapping[str, int | None] | None = None,
) -> list[Layer]:
    """A cost row for every parameter, tied ones once, with the MACs of all the modules that hold them.

    Args:
        known: MACs by parameter, of a model of the same architecture; nothing is run then.
    """
    macs = _macs_by_parameter(model, example, call) if known is None and example is not None else known
    kinds = {path: type(m).__name__ for path, m in model.named_modules()}
    rows = []
    for name, p in model.named_parameters():
        nonzero = p.numel() if p.is_meta else int(torch.count_nonzero(p.detach()))
        own = None if macs is None else macs[name]
        kind = kinds[name.rpartition(".")[0]]
        rows.append(Layer(name, kind, tuple(p.shape), p.numel(), nonzero, p.numel() * p.element_size(), own))
    return rows


def _macs_by_parameter(model: nn.Module, example: Any, call: Call) -> dict[str, int]:
    macs = _macs_of_matrices(model, macs_by_module(model, example, call))
    names: dict[int, list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    return {n: round(sum(macs.get(each, 0) for each in names[id(p)])) for n, p in model.named_parameters()}


def priced(space: Space, model: nn.Module, example: Any) -> Space:
    """The space with `macs` among the costs of its units: how often the example multiplies by a weight of the unit."""
    macs = _macs_of_matrices(model, macs_by_module(model, example))
    return space.replaced(costs={g.name: _with_macs(g, macs) for g in space if g.site is not None})


def _with_macs(group: Group, macs: Mapping[str, float]) -> dict[str, float]:
    assert group.site is not None
    uses = macs.get(group.site.name, 0) / max(group.site.tensor.numel(), 1)
    return {**group.costs, "macs": uses * group.costs.get("params", 1.0)}
