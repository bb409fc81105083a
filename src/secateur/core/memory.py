"""Memory that was freed goes back to the system."""

import ctypes
import sys
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    """glibc's `malloc_trim`; None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None


def give_back() -> None:
    """Pages that were freed and that the C library still holds go back; it does nothing where that is not known.

    glibc keeps what lies below the last block in use, so that a process which works on one block after another grows.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
