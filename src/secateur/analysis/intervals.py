"""How sure a mean over seeds is."""

import math
from collections.abc import Sequence


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of the mean: mean -+ t(n - 1) s / sqrt(n); None for fewer than two values.

    Args:
        values: independent figures, one for each seed.
        confidence: share of such intervals that hold the true mean, where the figures are normal.
    """
    n = len(values)
    if n < 2:
        return None
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * spread / math.sqrt(n)
    return mean - half, mean + half
