"""What may go: structures find the space of units on a subject, and carry a choice out."""

from .channels import Channels
from .directions import Directions
from .layers import Layers
from .parse import structure
from .samples import Samples
from .sparse import SparseWeights, depthwise_weights
from .weights import NM, Blocks, Weights

__all__ = [
    "NM",
    "Blocks",
    "Channels",
    "Directions",
    "Layers",
    "Samples",
    "SparseWeights",
    "Weights",
    "depthwise_weights",
    "structure",
]
