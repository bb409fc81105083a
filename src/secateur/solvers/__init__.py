"""Which units go, and the repair of what stays, in one act."""

from .sparsegpt import SparseGPT

__all__ = ["SparseGPT"]
