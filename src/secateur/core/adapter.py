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

from .masks import owner_of

Variant = Literal["lora", "lora_prune", "mask_lora", "scale_lora"]
MOST_RANK = 1 << 16
"""No folder makes larger factors."""
KEPT_A, KEPT_B = "weight_lora_a", "weight_lora_b"
"""What the factors are called that stay beside a weight, as parameters of the same layer."""


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

    def keep_(self) -> None:
        """Let the layer have the factors as parameters of its own, beside its weight, from now on."""
        self.layer.register_parameter(KEPT_A, self.a)
        self.layer.register_parameter(KEPT_B, self.b)
        self.layer.__dict__["_adapter"] = self

    @property
    def kept(self) -> bool:
        """Whether the factors are the layer's own parameters."""
        return KEPT_A in self.layer._parameters

    @torch.no_grad()
    def merge_(self) -> None:
        """Put the merged weight into the layer, in place, and leave it."""
        self.take_off_()
        weight: Tensor = self.layer.weight  # type: ignore[assignment]
        weight.copy_(self._of(weight, merged))
        for name in (KEPT_A, KEPT_B) if self.kept else ():
            del self.layer._parameters[name]
        assert self.mask is None or self.variant == "lora" or not bool(weight[~self.mask].any())  # nothing came back

    def _of(self, weight: Tensor, formula: Callable[..., Tensor]) -> Tensor:
        own, mask = self.layer._parameters, self.mask
        a, b = (own[KEPT_A], own[KEPT_B]) if self.kept else (self.a, self.b)  # a load may have put others there
        if not self.transposed:
            return formula(weight, a, b, mask, self.variant, self.scaling)
        mask = None if mask is None else mask.T
        return formula(weight.T, a, b, mask, self.variant, self.scaling).T

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
    if weight.is_meta:
        shapes = (rank, weight.shape[1]), (weight.shape[0], rank)
        return tuple(nn.Parameter(torch.empty(shape, dtype=kind, device="meta")) for shape in shapes)  # type: ignore[return-value]
    a, b = torch.empty(rank, weight.shape[1], dtype=kind), torch.zeros(weight.shape[0], rank, dtype=kind)
    if variant == "scale_lora":
        nn.init.constant_(a, rank**-0.5)
        nn.init.constant_(b, rank**-0.5)
    else:
        nn.init.kaiming_uniform_(a, a=5**0.5, generator=rng)  # as in the official code of LoRA
    return nn.Parameter(a.to(weight.device)), nn.Parameter(b.to(weight.device))


def is_transposed(layer: nn.Module) -> bool:
    """Whether a layer stores its weight as `[in, out]`: `Conv1D` of transformers."""
    return type(layer).__name__ == "Conv1D" and not isinstance(layer, nn.Conv1d)


@dataclass(frozen=True)
class Adapt:
    """The named weight has factors of this rank beside it, and is used as W + scaling * B A."""

    tensor: str
    rank: int
    scaling: float

    def replay_(self, model: nn.Module) -> None:
        layer, leaf = owner_of(model, self.tensor)
        weight = layer._parameters.get(leaf)
        if leaf != "weight" or weight is None or weight.dim() != 2:
            raise AttributeError(f"{self.tensor!r} is no matrix of a linear layer")
        if KEPT_A in layer._parameters:
            return
        turned = is_transposed(layer)
        a, b = factors(weight.T if turned else weight, self.rank, "lora", torch.Generator())
        Adapter(layer, a, b, None, "lora", self.scaling, turned).keep_()


def merge_kept_(model: nn.Module) -> list[str]:
    """Merge all factors that lie beside a weight, in place; such a weight is dense afterwards.

    Returns:
        The names of the weights that have lost their zeros.
    """
    changed = []
    for path, layer in model.named_modules():
        adapter = layer.__dict__.pop("_adapter", None)
        if isinstance(adapter, Adapter):
            adapter.merge_()
            changed.append(f"{path}.weight" if path else "weight")
    return changed
