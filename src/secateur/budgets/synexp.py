r"""SynExp's densities, and the widths of channels that give layers their densities (Cai et al., "PreCrop", 2022).

SynExp maximises sum log p_l under limits on sum alpha_l p_l and sum f_l p_l, with p_l <= 1:

    p_l = min(1, 1 / (lam alpha_l + mu f_l)),     lam, mu >= 0

A layer that keeps the share m_in of its inputs and m_out of its outputs has the density m_in m_out, so widths solve

    min sum_l alpha_l (sum_{f of l} log m_f - log p_l)^2     with m_f <= 1
"""

from collections.abc import Callable, Sequence

import numpy as np

_ROUNDS = 100


def synexp(alpha: Sequence[float], f: Sequence[float], density: float) -> list[float]:
    """The largest sum of log p_l where neither alpha nor f may exceed this share of its sum, by nested bisection."""
    a, b = np.asarray(alpha, float) / sum(alpha), np.asarray(f, float) / sum(f)

    def densities(lam: float, mu: float) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.minimum(1.0, 1 / (lam * a + mu * b))

    def least(cost: np.ndarray, point: Callable[[float], np.ndarray]) -> float:
        """The smallest multiplier that brings a cost down to the limit."""
        if cost @ point(0.0) <= density:
            return 0.0
        low, high = 0.0, 2 * len(a) / density
        for _ in range(_ROUNDS):
            middle = (low + high) / 2
            low, high = (middle, high) if cost @ point(middle) > density else (low, middle)
        return high

    def best(mu: float) -> np.ndarray:
        return densities(least(a, lambda lam: densities(lam, mu)), mu)

    found: list[float] = best(least(b, best)).tolist()
    return found


def widths(families: int, layers: Sequence[tuple[tuple[int, ...], float, float]]) -> list[float]:
    """m of every family, at most 1, from (families of the layer, its parameters, its density)."""
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    rows, wanted = np.zeros((len(layers) + families, families)), np.zeros(len(layers) + families)
    for row, (members, alpha, density) in enumerate(layers):
        for family in members:
            rows[row, family] += alpha**0.5
        wanted[row] = -(alpha**0.5) * np.log(density)
    # what the layers leave open is shared evenly
    rows[len(layers) :] = 1e-4 * np.eye(families) * max(alpha for _, alpha, _ in layers) ** 0.5
    found: list[float] = np.exp(-nnls(rows, wanted)[0]).tolist()
    return found
