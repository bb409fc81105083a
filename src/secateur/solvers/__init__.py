"""Which units go, and the repair of what stays, in one act."""

from .principal import PrincipalAxes
from .sparsegpt import SparseGPT

__all__ = ["PrincipalAxes", "SparseGPT"]
