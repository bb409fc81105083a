"""Which units go, and the repair of what stays, in one act."""

from .obc import OBC
from .principal import PrincipalAxes
from .sparsegpt import SparseGPT

__all__ = ["OBC", "PrincipalAxes", "SparseGPT"]
