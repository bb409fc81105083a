"""Is there a better choice of the same size? Units change places, and the loss is asked."""

from .block_descent import BlockDescent

__all__ = ["BlockDescent"]
