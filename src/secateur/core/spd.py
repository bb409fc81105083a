"""Factors of symmetric positive matrices that are damped, never replaced."""

import torch
from jaxtyping import Float
from torch import Tensor

from .errors import NumericsError

_TRIES = 4


def damped_factor(H: Float[Tensor, "n n"], damping: float, where: str = "") -> tuple[Float[Tensor, "n n"], float]:
    """The upper Cholesky factor U of (H + d mean(diag H) I)^-1 = U^T U, and the d that it took.

    Args:
        damping: d to begin with; ten times as much where that is singular, three times over.

    Raises:
        NumericsError: it has no factor, damped or not.
    """
    mean, diagonal = H.diagonal().mean(), H.diagonal().clone()
    for tenfold in range(_TRIES):
        used = damping * 10**tenfold
        H.diagonal().copy_(diagonal + used * mean)
        factor, failed = torch.linalg.cholesky_ex(H)
        H.diagonal().copy_(diagonal)
        if failed or not _is_finite(factor):
            continue
        torch.cholesky_inverse(factor, out=factor)  # all in one place: H may be the largest tensor of its block
        torch.linalg.cholesky_ex(factor, upper=True, out=(factor, failed))
        if not failed and _is_finite(factor):
            return factor, used
    raise NumericsError(
        f"the second moments of its inputs have no inverse, not even with a damping of {used:g}",
        where=where,
        mend="more calibration samples, other inputs, a larger damping=, or exclude=[...]",
    )


def _is_finite(factor: Float[Tensor, "n n"]) -> bool:
    """Whether a Cholesky factor is finite: of each row that is not, the diagonal is the root of no number, either."""
    return bool(factor.diagonal().isfinite().all())
