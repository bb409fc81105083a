r"""Closed forms of data-free compression: a damaged filter as a combination of those that stay (Bai et al., ICCV 2023).

With filters v_i and shifts b_i of what stays, V and B their matrices, and (v_j', b_j') what the damaged one has lost:

    s_j = argmin_s ||v_j' - sum_i s_i v_i||^2 + lam1 ||b_j' - sum_i s_i b_i||^2 + lam2 ||s||^2
        = (V V^T + lam1 B B^T + lam2 I)^-1 (V v_j' + lam1 B b_j')
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


def combination(
    lost: Float[Tensor, "damaged features"],
    filters: Float[Tensor, "kept features"],
    lost_shifts: Float[Tensor, "damaged positions"],
    shifts: Float[Tensor, "kept positions"],
    lam1: float,
    lam2: float | Literal["relative"],
    nonnegative: bool = False,
) -> Float[Tensor, "kept damaged"]:
    """s_j of every damaged channel j, as a column; without negative entries if asked.

    Args:
        lam2: a number, or "relative" for 1e-3 of the mean square of a filter.
    """
    gram = filters @ filters.T
    ridge = 1e-3 * float(gram.diagonal().mean()) if lam2 == "relative" else float(lam2)
    if nonnegative:
        from scipy.optimize import nnls  # type: ignore[import-untyped]

        rows = torch.cat((filters.T, lam1**0.5 * shifts.T, ridge**0.5 * torch.eye(len(filters)).to(filters)))
        wanted = torch.cat((lost.T, lam1**0.5 * lost_shifts.T, lost.new_zeros(len(filters), len(lost))))
        found = [torch.from_numpy(nnls(rows.cpu().numpy(), column.cpu().numpy())[0]) for column in wanted.T]
        return torch.stack(found, 1).to(filters)
    A = gram + lam1 * shifts @ shifts.T + ridge * torch.eye(len(filters)).to(filters)
    right = filters @ lost.T + lam1 * shifts @ lost_shifts.T
    solved: Tensor = torch.linalg.lstsq(A, right).solution if ridge == 0 else torch.linalg.solve(A, right)
    return solved


def mean_after_relu(mean: Float[Tensor, " n"], deviation: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """E[max(z, 0)] of z ~ N(mean, deviation^2): deviation pdf(mean/deviation) + mean cdf(mean/deviation)."""
    deviation = deviation.abs()
    t = mean / deviation.clamp_min(torch.finfo(mean.dtype).tiny)
    pdf = torch.exp(-0.5 * t.square()) / (2 * torch.pi) ** 0.5
    return torch.where(deviation > 0, deviation * pdf + mean * torch.special.ndtr(t), mean.clamp_min(0))


def quantized(weight: Float[Tensor, "out ..."], bits: int) -> Float[Tensor, "out ..."]:
    """The nearest values on a symmetric grid of 2^bits - 1 levels for each output, as floats."""
    levels = 2 ** (bits - 1) - 1
    step = weight.abs().flatten(1).amax(1).div(levels).reshape(-1, *[1] * (weight.dim() - 1))
    return torch.where(step > 0, (weight / step).round() * step, weight)
