"""Statistics in one pass, or block by block: whatever scores ask for is collected together."""

from .chain import layout_of
from .collect import collect
from .noise import Noise
from .on_disk import stored_names
from .stream import checked_layout, parts_of

__all__ = ["Noise", "checked_layout", "collect", "layout_of", "parts_of", "stored_names"]
