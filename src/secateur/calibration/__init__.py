"""Statistics in one pass, or block by block: whatever scores ask for is collected together."""

from .chain import Layout, layout_of
from .collect import collect
from .noise import Noise
from .on_disk import OnDisk, stored_names
from .shards import Shards, ShardWriter
from .stream import InMemory, Part, Residency, Stream, checked_layout, parts_of

__all__ = [
    "InMemory",
    "Layout",
    "Noise",
    "OnDisk",
    "Part",
    "Residency",
    "ShardWriter",
    "Shards",
    "Stream",
    "checked_layout",
    "collect",
    "layout_of",
    "parts_of",
    "stored_names",
]
