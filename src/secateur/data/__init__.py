"""Data sets for data pruning. Today: the list of sample ids that a keep retains, as a file."""

from .manifest import read_ids, write_ids

__all__ = ["read_ids", "write_ids"]
