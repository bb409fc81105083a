r"""How the loss changes when other units of a block go: a quadratic function of which go (iCBS, 2024).

A block's weights are w = w0 + dw now and w0 (1 - x) then, so they move by d = -(dw + x w0), and

    dL = c g.d + 1/2 d^T H d + lambda |d|^2 = const + x^T Q x
    Q = 1/2 (w0 w0^T) H + diag(w0 (H dw)) - c diag(w0 g) + lambda diag(w0 (2 dw + w0))
    const = 1/2 dw^T H dw - c dw.g + lambda |dw|^2

g and H are those of the loss at the weights as they are now. The factor c, below 1, trusts the gradient less.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def quadratic(
    H: Float[Tensor, "n n"],
    g: Float[Tensor, " n"],
    w0: Float[Tensor, " n"],
    dw: Float[Tensor, " n"],
    gradient: float = 1.0,
    ridge: float = 0.0,
) -> tuple[Float[Tensor, "n n"], Float[Tensor, ""]]:
    """`(Q, const)`; x^T Q x + const is the change of the loss.

    Args:
        H, g: Hessian and gradient at the present weights.
        w0: the original weights.
        dw: the present weights less the original ones: 0 for what stays, -w0 for what is gone.
        gradient: the factor c.
        ridge: lambda.
    """
    diagonal = w0 * (H @ dw) - gradient * w0 * g + ridge * w0 * (2 * dw + w0)
    Q = torch.outer(w0, w0) * H / 2 + torch.diag(diagonal)
    return Q, dw @ H @ dw / 2 - gradient * (dw @ g) + ridge * (dw @ dw)


def empirical_fisher(slopes: Float[Tensor, "samples n"]) -> Float[Tensor, "n n"]:
    """1/B sum_b g_b g_b^T from the gradients of single samples."""
    return slopes.T @ slopes / len(slopes)
