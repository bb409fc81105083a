"""Comparing populations of networks instead of their best members (after Radosavovic et al., "RegNet", CVPR 2020)."""

from collections.abc import Sequence


def empirical_distribution(errors: Sequence[float]) -> tuple[list[float], list[float]]:
    """F(e) = share of the errors below or at e: the errors in order, and the share at each."""
    return sorted(errors), [(i + 1) / len(errors) for i in range(len(errors))]


def rank_test(lower: Sequence[float], others: Sequence[float]) -> float:
    """p of Mann and Whitney's test that the first errors are not lower than the others."""
    from scipy.stats import mannwhitneyu  # type: ignore[import-untyped]

    return float(mannwhitneyu(list(lower), list(others), alternative="less").pvalue)


def nearest_third(ratios: Sequence[float], best: float) -> list[bool]:
    """Whether each ratio is among the third that is nearest to the best one, as a share of it; ties by order."""
    order = sorted(range(len(ratios)), key=lambda i: abs(ratios[i] / best - 1))
    near = set(order[: max(1, round(len(ratios) / 3))])
    return [i in near for i in range(len(ratios))]
