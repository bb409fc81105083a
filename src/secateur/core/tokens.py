"""Layers whose inputs and outputs are rows of tokens: linear layers, norms, convolutions over their patches."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from .adapter import is_transposed
from .sliced import SlicedNorm


@dataclass(frozen=True)
class View:
    """How what a layer is given and gives becomes rows of features; equal views see an input alike.

    Attributes:
        unfold: kernel size, dilation, padding and stride of a convolution; empty where features are last already.
        pad: left, right, top and bottom, where a convolution pads in a way that unfolding cannot.
        mode: what it pads with, as `torch.nn.functional.pad` names it.
    """

    unfold: tuple[Any, ...] = ()
    pad: tuple[int, ...] = ()
    mode: str = "constant"

    def inputs(self, x: Tensor) -> Float[Tensor, "... in"]:
        """Patches of a convolution as `[batch, places, in]`; what other layers are given is as it should be."""
        if not self.unfold:
            return x
        padded = nn.functional.pad(x, self.pad, self.mode) if self.pad else x
        return nn.functional.unfold(padded, *self.unfold).transpose(1, 2)

    def outputs(self, y: Tensor) -> Float[Tensor, "... out"]:
        """The outputs for the rows of `inputs`."""
        return y.flatten(2).transpose(1, 2) if self.unfold else y


def token_view(module: nn.Module) -> View | None:
    """How this module's input and output become rows of features; None where they do not."""
    if isinstance(module, nn.Linear | nn.LayerNorm | nn.RMSNorm | SlicedNorm) or is_transposed(module):
        return View()
    if not isinstance(module, nn.Conv2d) or module.groups > 1:
        return None
    size, dilation, stride = module.kernel_size, module.dilation, module.stride
    if module.padding_mode == "zeros" and isinstance(module.padding, tuple):
        return View((size, dilation, module.padding, stride))
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return View((size, dilation, 0, stride), _margins(module), mode)


def _margins(conv: nn.Conv2d) -> tuple[int, ...]:
    """What a convolution adds left, right, above and below; "same" adds the odd one behind."""
    margins: list[int] = []
    for axis in (1, 0):
        if isinstance(conv.padding, tuple):
            margins += [conv.padding[axis]] * 2
        else:
            total = conv.dilation[axis] * (conv.kernel_size[axis] - 1) if conv.padding == "same" else 0
            margins += [total // 2, total - total // 2]
    return tuple(margins)
