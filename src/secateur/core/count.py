"""From a share to a count: the one place where Secateur rounds."""

from fractions import Fraction


def count(share: float, of: int) -> int:
    """`share` of `of` units as a whole number: exact in the decimal the user wrote, rounded half up.

    0.145 of 100 is 15, as on paper, although the binary float nearest to 0.145 lies below it.

    Args:
        share: between 0 and 1.
        of: how many units there are.
    """
    return int(Fraction(repr(float(share))) * of + Fraction(1, 2))


def kept_count(sparsity: float, of: int) -> int:
    """Units that stay when `sparsity` of them goes; the removed count is the one that is rounded."""
    return of - count(sparsity, of)
