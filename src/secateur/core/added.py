"""A bias where a layer had none, as an action of a plan."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd


@dataclass(frozen=True)
class AddBias:
    """The named layer, linear or a convolution, has a bias from now on; zeros, where nothing else is stored.

    Attributes:
        tensor: the bias, as "layers.0.down_proj.bias".
    """

    tensor: str

    def replay_(self, model: nn.Module) -> None:
        """Raises AttributeError where there is no such layer, or it cannot have a bias."""
        path, _, leaf = self.tensor.rpartition(".")
        module = model.get_submodule(path)
        if leaf != "bias" or not isinstance(module, nn.Linear | _ConvNd):
            raise AttributeError(f"{self.tensor!r} can be no bias of a {type(module).__name__}")
        if module.bias is None:
            weight = module.weight
            size = weight.shape[0] if isinstance(module, nn.Linear) else module.out_channels
            new = torch.zeros(size, dtype=weight.dtype, device=weight.device)
            module.register_parameter("bias", nn.Parameter(new, requires_grad=weight.requires_grad))

    def undo_(self, model: nn.Module) -> None:
        """Take it away again."""
        model.get_submodule(self.tensor.rpartition(".")[0]).register_parameter("bias", None)
