"""Statistics in one pass: whatever scores ask for is collected together, and the model is left as it was."""

from .collect import collect
from .noise import Noise

__all__ = ["Noise", "collect"]
