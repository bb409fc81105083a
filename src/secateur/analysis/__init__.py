"""What pruning did to the model: where two keeps agree beyond chance, and how sure a mean over seeds is."""

from .intervals import mean_interval
from .overlap import Overlap, overlaps

__all__ = ["Overlap", "mean_interval", "overlaps"]
