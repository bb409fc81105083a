r"""Rules of layer-wise relevance propagation (Bach et al., 2015; Yeom et al., "Pruning by Explaining", 2021).

The relevance R of an output z = sum_i x_i w_i goes to the inputs in proportion to what they gave:

    alpha-beta   R_i = sum (alpha (x_i w_i)^+ / z^+  +  (1 - alpha) (x_i w_i)^- / z^-) R         z+ is alpha = 1
    epsilon      R_i = sum x_i w_i / (z + eps sign z) R                                          z with its bias

Every rule gets an operation that is linear in x, so that strides, groups and padding are torch's business.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Linear = Callable[[Tensor, Tensor], Tensor]
"""`(x, weight) -> x W^T` without bias, of any layer."""
_TINY = 1e-9


def stable(z: Tensor, epsilon: float = _TINY) -> Tensor:
    """z + epsilon sign(z), with sign(0) = 1."""
    return z + epsilon * torch.where(z >= 0, 1.0, -1.0).to(z)


def transposed(operation: Callable[[Tensor], Tensor], like: Tensor, s: Tensor) -> Tensor:
    """W^T s, for an operation that is linear in something like this."""
    with torch.enable_grad():
        x = torch.zeros_like(like, requires_grad=True)
        (found,) = torch.autograd.grad(operation(x), x, s)
    return found


def proportional(operation: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor) -> Tensor:
    """x W^T(R / z) of any operation linear in x: pools, means, sums, and products with what is held fixed."""
    return x * transposed(operation, x, relevance / stable(operation(x)))


def epsilon_rule(x: Tensor, weight: Tensor, z: Tensor, relevance: Tensor, linear: Linear, epsilon: float) -> Tensor:
    """x W^T(R / (z + eps sign z)), where z has its bias."""
    return x * transposed(lambda v: linear(v, weight), x, relevance / stable(z, epsilon))


def alpha_beta_rule(x: Tensor, weight: Tensor, relevance: Tensor, linear: Linear, alpha: float) -> Tensor:
    """What speaks for an output shares alpha R, what speaks against it (1 - alpha) R; biases take nothing."""
    (up, down), (positive, negative) = (x.clamp_min(0), x.clamp_max(0)), (weight.clamp_min(0), weight.clamp_max(0))
    found = _shares(up, down, positive, negative, alpha * relevance, linear)
    if alpha != 1:
        found = found + _shares(up, down, negative, positive, (1 - alpha) * relevance, linear)
    return found


def _shares(up: Tensor, down: Tensor, one: Tensor, other: Tensor, relevance: Tensor, linear: Linear) -> Tensor:
    """Shares of the products up * one and down * other, which all have the same sign."""
    s = relevance / stable(linear(up, one) + linear(down, other))
    found: Tensor = up * transposed(lambda v: linear(v, one), up, s)
    if bool(down.any()):
        found = found + down * transposed(lambda v: linear(v, other), down, s)
    return found


def softmax_rule(x: Tensor, p: Tensor, relevance: Tensor, dim: int) -> Tensor:
    """x (R - p sum R), as in AttnLRP (Achtibat et al., 2024); what masks out (-inf) takes nothing."""
    found = x * (relevance - p * relevance.sum(dim, keepdim=True))
    return torch.where(torch.isfinite(x), found, torch.zeros_like(found))
