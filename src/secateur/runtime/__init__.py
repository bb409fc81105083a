"""Making it really faster, and measuring whether it is."""

from .latency import Comparison, compare_latency

__all__ = ["Comparison", "compare_latency"]
