"""Files that others wrote: only plain ones are opened, and none is read that is larger than it can be."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

from .errors import CheckpointError

MOST_ELEMENTS = 1 << 40  # 4 TB in float32: beyond any tensor, far below what overflows
_MOST_DIMENSIONS = 64


def open_plain(path: Path) -> int:
    """A handle to a plain file; a link, a device or a pipe is a `CheckpointError`, and nothing waits for it."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError("it is no plain file")
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise unreadable(path, OSError("it is no plain file"))
    return handle


def read_small(path: Path, most: int) -> bytes:
    """The content of a plain file that is not larger than `most` bytes; else a `CheckpointError`, unread."""
    with os.fdopen(open_plain(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size) if size <= most else None
    if content is None:
        raise CheckpointError("the file is too large to be ours", where=str(path), mend="restore it from a copy")
    return content


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file that cannot be read."""
    told = (str(error).splitlines() or [type(error).__name__])[0][:300]
    return CheckpointError(f"the file cannot be read: {told}", where=str(path), mend="restore it from a copy")


def unwritable(path: Path, error: OSError) -> CheckpointError:
    """The error for a place that cannot be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    mend = "free some space, or choose another place" if full else "choose a place that can be written"
    return CheckpointError(str(error), where=str(path), mend=mend)


def shape_of(told: object) -> tuple[int, ...]:
    """The shape of a tensor as a file tells it: few dimensions, none negative, and no more elements than can be.

    Raises:
        ValueError: anything else, before numbers of millions of digits are multiplied.
    """
    if not isinstance(told, list | tuple) or len(told) > _MOST_DIMENSIONS:
        raise ValueError(f"a {type(told).__name__} that is no shape")
    elements = 1
    for size in told:
        if type(size) is not int or not 0 <= size <= MOST_ELEMENTS:
            raise ValueError(f"a dimension of {str(size)[:40]}")
        elements *= max(size, 1)
    if elements > MOST_ELEMENTS:
        raise ValueError(f"a tensor of more than {MOST_ELEMENTS} elements")
    return tuple(told)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: an object whose keys all differ."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
