"""Making it really faster, and measuring whether it is."""

from .hardware import channel_multiple
from .latency import Comparison, compare_latency

__all__ = ["Comparison", "channel_multiple", "compare_latency"]
