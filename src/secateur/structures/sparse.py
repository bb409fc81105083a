"""Single weights with a price: what an ideal sparse runtime would multiply. No dense kernel is faster for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from secateur.core import Choice, Plan, Space, Structure
from secateur.core.costs import layers

from .sight import Call, Sight
from .weights import Weights, mask_

Patterns = tuple[str, ...]


@dataclass(frozen=True)
class SparseWeights(Structure):
    """Single weights, masked, where a target of MACs means multiplications by weights that are not zero.

    These *ideal sparse MACs* are how papers count unstructured sparsity; `macs_nonzero` of a result. Dense kernels
    still multiply by the zeros, so they are no speed.

    Attributes:
        include, exclude: shell patterns on tensor or module names.
        depthwise: whether depthwise convolutions are pruned; they are small, and sensitive.
        floor: fewest weights that stay in each matrix (all of them in a smaller one).
    """

    include: Patterns = ("*",)
    exclude: Patterns = ()
    depthwise: bool = False
    floor: int = 0

    def seeing(self, call: Call | None) -> "SparseWeights":
        made = replace(self)
        object.__setattr__(made, "_sight", None if call is None else Sight(call, _macs_per_weight))
        return made

    def find(self, subject: object) -> Space:
        """One group per matrix; with an example also what the whole costs, in `totals["macs"]`."""
        left = () if self.depthwise or not isinstance(subject, nn.Module) else depthwise_weights(subject)
        space = Weights(self.include, (*self.exclude, *left), floor=self.floor).find(subject)
        skipped = {n: "a depthwise convolution" if n in left else why for n, why in space.skipped.items()}
        sight: Sight[Mapping[str, tuple[float, int]]] | None = getattr(self, "_sight", None)
        totals: dict[str, Callable[[Mapping[str, Tensor]], float]] = {}
        if sight is not None and isinstance(subject, nn.Module):
            prices = sight.of(subject)

            def remaining(keep: Mapping[str, Tensor]) -> float:
                kept = {name: int(keep[name].sum()) if name in keep else size for name, (_, size) in prices.items()}
                return sum(price * kept[name] for name, (price, _) in prices.items())

            totals["macs"] = remaining
        return Space(space.groups, skipped, totals)

    def apply_(self, subject: nn.Module, choice: Choice) -> tuple[nn.Module, Plan]:
        """Mask the weights in place."""
        return subject, mask_(subject, self.find(subject), choice)


def depthwise_weights(model: nn.Module) -> tuple[str, ...]:
    """The weights of convolutions of which every output reads a single channel of several."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = {n: m for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, kinds)}
    return tuple(f"{n}.weight".lstrip(".") for n, m in found.items() if 1 < m.groups == m.in_channels)


def _macs_per_weight(model: nn.Module, call: Call) -> dict[str, tuple[float, int]]:
    """Of each tensor of two or more dimensions: how often the example multiplies by a weight of it, and its weights."""

    def run(subject: nn.Module, _: Any) -> Any:
        return call(subject)

    rows = layers(model, (), run)
    return {r.name: ((r.macs or 0) / r.params, r.params) for r in rows if r.params and len(r.shape) > 1}
