"""Linear layers and tables multiplied by a matrix, from either side, in float64."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secateur.core import Mend, Resize, is_transposed
from secateur.core.plan import mend_sizes_


def weight_of(module: nn.Module) -> Float[Tensor, "out in"]:
    """W of y = W x + b, in float64; of a table of embeddings the transposed one, whose columns are its entries."""
    stored: Tensor = module.weight.detach().double()  # type: ignore[operator]
    return stored.T if _turned(module) else stored


def put_weight_(module: nn.Module, W: Float[Tensor, "out in"]) -> None:
    """The inverse of `weight_of`: W of any shape, rounded to the type that was there; sizes of the module follow."""
    _put_(module, "weight", W.T if _turned(module) else W)
    mend_sizes_(module)
    if is_transposed(module):
        for name, size in zip(("nx", "nf"), cast(Tensor, module.weight).shape, strict=True):
            setattr(module, name, size)


def add_to_bias_(module: nn.Module, shift: Float[Tensor, " out"]) -> bool:
    """Add to the bias, which is made where there is none; whether it was."""
    old = getattr(module, "bias", None)
    if old is not None:
        _put_(module, "bias", old.detach().double() + shift)
        return False
    like: Tensor = module.weight  # type: ignore[assignment]
    new = nn.Parameter(shift.to(like.dtype), requires_grad=like.requires_grad)
    module.register_parameter("bias", new)
    return True


def times_inputs_(module: nn.Module, M: Float[Tensor, "in fewer"]) -> None:
    """The layer reads x M^T where it read x: W becomes W M."""
    put_weight_(module, weight_of(module) @ M.to(module.weight.device))  # type: ignore[arg-type]


def times_outputs_(module: nn.Module, M: Float[Tensor, "out fewer"]) -> None:
    """The layer, or the table, gives y M where it gave y: W becomes M^T W, and b becomes b M."""
    M = M.to(module.weight.device)  # type: ignore[arg-type]
    put_weight_(module, M.T @ weight_of(module))
    bias = getattr(module, "bias", None)
    if bias is not None:
        _put_(module, "bias", bias.detach().double() @ M)


def sizes(path: str, module: nn.Module) -> list[Resize | Mend]:
    """What a plan says of a module whose weight has another shape than it had."""
    told: list[Resize | Mend] = [
        Resize(f"{path}.{name}", tuple(p.shape)) for name, p in module.named_parameters(recurse=False)
    ]
    if is_transposed(module):
        told += [Mend(path, name, getattr(module, name)) for name in ("nf", "nx") if hasattr(module, name)]
    return told


def _turned(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding) or is_transposed(module)


def _put_(module: nn.Module, name: str, value: Tensor) -> None:
    old = module._parameters[name]
    assert old is not None
    new = value.to(old.dtype).contiguous()
    if new.shape == old.shape:
        with torch.no_grad():
            old.copy_(new)
    else:
        module._parameters[name] = nn.Parameter(new, requires_grad=old.requires_grad)
