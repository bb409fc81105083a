"""What stands around a weight in the pass that was seen: its bias, the batch norm and the activation behind it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Named:
    """A live tensor and its dotted name in the subject."""

    name: str
    tensor: Tensor


@dataclass(frozen=True, eq=False)
class Norm:
    """A batch norm with running statistics, that alone reads what a layer makes."""

    mean: Named
    variance: Named
    weight: Named | None
    bias: Named | None
    eps: float

    def scale(self) -> Float[Tensor, " channels"]:
        """gamma / sigma, in float64."""
        sigma = (self.variance.tensor.detach().double() + self.eps).sqrt()
        return self.gamma() / sigma

    def gamma(self) -> Float[Tensor, " channels"]:
        """The deviation of what it gives, up to sign, in float64."""
        tensor = self.mean.tensor if self.weight is None else self.weight.tensor
        return torch.ones_like(tensor, dtype=torch.float64) if self.weight is None else tensor.detach().double()

    def beta(self) -> Float[Tensor, " channels"]:
        """The mean of what it gives, in float64."""
        tensor = self.mean.tensor if self.bias is None else self.bias.tensor
        return torch.zeros_like(tensor, dtype=torch.float64) if self.bias is None else tensor.detach().double()


@dataclass(frozen=True, eq=False)
class Layer:
    """A matrix or a convolution of the pass.

    Attributes:
        bias: that is added, if one is.
        norm: that alone reads what it makes, if one does.
        activation: the operation that alone reads that ("relu"); empty where there is none, or several readers.
        reads: number of the value that it reads in the pass, and
        gives: of the one that it gives, after norm and activation.
        macs: how often it multiplies in the pass.
    """

    bias: Named | None
    norm: Norm | None
    activation: str
    reads: int
    gives: int
    macs: int = 0


def scale_and_shift(
    layer: Layer | None, like: Float[Tensor, "..."], size: int
) -> tuple[Float[Tensor, " size"], Float[Tensor, " size"]]:
    """What bias and batch norm do to each output in eval mode: y = scale * (W x) + shift, in float64."""
    bias = torch.zeros(size, dtype=torch.float64, device=like.device)
    if layer is not None and layer.bias is not None:
        bias = layer.bias.tensor.detach().double()
    if layer is None or layer.norm is None:
        return torch.ones_like(bias), bias
    norm = layer.norm
    return norm.scale(), norm.beta() + norm.scale() * (bias - norm.mean.tensor.detach().double())
