r"""Low-rank adapters of weight matrices: what they make of a weight, in training and merged into it.

Hu et al., "LoRA", ICLR 2022, and Zimmer et al., "PERP", 2023, whose variants keep a mask M; with s = alpha / rank:

    lora         W + s B A                  no sparsity is left where it is merged
    lora_prune   W + s B A                  merged: W + s (B A) * M, so what it gives may jump
    mask_lora    W + s (B A) * M            merged the same
    scale_lora   W * (B A)                  merged the same

B begins at 0, or A and B at 1 / sqrt(rank) for `scale_lora`: every variant begins at W, up to rounding. Where M is
False the last two give exactly 0, whatever the factors hold. The columns of `scale_lora` begin equal, so they stay
equal: in effect its rank is one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

Variant = Literal["lora", "lora_prune", "mask_lora", "scale_lora"]


def adapted(
    weight: Float[Tensor, "out in"],
    a: Float[Tensor, "rank in"],
    b: Float[Tensor, "out rank"],
    mask: Bool[Tensor, "out in"] | None,
    variant: Variant,
    scaling: float,
) -> Float[Tensor, "out in"]:
    """The weight that is used while the factors train, in the weight's dtype; no mask is one of all True.

    Computed in the dtype of the factors, outside of autocast, so that merging gives the same bits.
    """
    with torch.autocast(weight.device.type, enabled=False):
        product = b @ a
        own = weight.to(product.dtype)
        if variant == "scale_lora":
            changed = own * product
            return (changed if mask is None else torch.where(mask, changed, 0)).to(weight.dtype)
        change = scaling * product
        if mask is not None and variant == "mask_lora":
            change = torch.where(mask, change, 0)
        return (own + change).to(weight.dtype)


def merged(
    weight: Float[Tensor, "out in"],
    a: Float[Tensor, "rank in"],
    b: Float[Tensor, "out rank"],
    mask: Bool[Tensor, "out in"] | None,
    variant: Variant,
    scaling: float,
) -> Float[Tensor, "out in"]:
    """The weight that replaces weight and factors; what the mask removed stays exactly 0, except for "lora"."""
    masked: Variant = "mask_lora" if variant == "lora_prune" else variant
    return adapted(weight, a, b, mask, masked, scaling)


@dataclass(eq=False)
class Adapter:
    """The factors of one layer, and how its forward pass sees the adapted weight; the layer's own tensors stay.

    For the time of a forward pass the layer's `weight` is the adapted one, so any class of layer works that reads its
    weight there. Names, order and masks of the layer's tensors are untouched.

    Attributes:
        layer: whose `weight` is a matrix.
        a, b: the factors, `[rank, in]` and `[out, rank]`.
        mask: of the weight's own shape, True where weights stay, or None.
        transposed: whether the weight lies as `[in, out]`, as in `Conv1D` of transformers.
    """

    layer: nn.Module
    a: nn.Parameter
    b: nn.Parameter
    mask: Tensor | None
    variant: Variant
    scaling: float
    transposed: bool = False

    def __post_init__(self) -> None:
        self._own: nn.Parameter | None = None
        self._hooks = [
            self.layer.register_forward_pre_hook(self._enter),
            self.layer.register_forward_hook(self._leave, always_call=True),
        ]

    def take_off_(self) -> None:
        """Leave the layer as it was."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def merge_(self) -> None:
        """Put the merged weight into the layer, in place, and leave it."""
        self.take_off_()
        weight: Tensor = self.layer.weight  # type: ignore[assignment]
        weight.copy_(self._of(weight, merged))
        assert self.mask is None or self.variant == "lora" or not bool(weight[~self.mask].any())  # nothing came back

    def _of(self, weight: Tensor, formula: Callable[..., Tensor]) -> Tensor:
        mask = self.mask
        if not self.transposed:
            return formula(weight, self.a, self.b, mask, self.variant, self.scaling)
        mask = None if mask is None else mask.T
        return formula(weight.T, self.a, self.b, mask, self.variant, self.scaling).T

    def _enter(self, *_: object) -> None:
        own = self.layer._parameters["weight"]
        assert own is not None
        self._own = own
        self.layer._parameters["weight"] = self._of(own, adapted)  # type: ignore[assignment]

    def _leave(self, *_: object) -> None:
        if self._own is not None:
            self.layer._parameters["weight"], self._own = self._own, None


def factors(
    weight: Float[Tensor, "out in"], rank: int, variant: Variant, rng: torch.Generator
) -> tuple[nn.Parameter, nn.Parameter]:
    """New factors, with which `adapted` gives the weight as it is; in float32, or float64 for such a weight."""
    kind = torch.float64 if weight.dtype == torch.float64 else torch.float32
    a, b = torch.empty(rank, weight.shape[1], dtype=kind), torch.zeros(weight.shape[0], rank, dtype=kind)
    if variant == "scale_lora":
        nn.init.constant_(a, rank**-0.5)
        nn.init.constant_(b, rank**-0.5)
    else:
        nn.init.kaiming_uniform_(a, a=5**0.5, generator=rng)  # as in the official code of LoRA
    return nn.Parameter(a.to(weight.device)), nn.Parameter(b.to(weight.device))
