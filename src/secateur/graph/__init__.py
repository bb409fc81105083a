"""Which tensors and slices are coupled. Today: parameters that are one tensor under several names."""

from .tied import names_by_tensor

__all__ = ["names_by_tensor"]
