"""What pruning did to the model. Today: where two keeps agree, and whether more than chance would have it."""

from .overlap import Overlap, overlaps

__all__ = ["Overlap", "overlaps"]
