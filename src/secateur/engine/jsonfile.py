"""Plain data in a file of its own, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from secateur.core import CheckpointError
from secateur.core.files import read_small

from .tensors import write_atomically

_MOST = 64 << 20


def write_json(file: Path, value: Any) -> None:
    """Replace a file; its folder is made. Raises `CheckpointError`; what was there is then still whole."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(value, indent=1).encode())
    except OSError as error:
        raise CheckpointError(str(error), where=str(file), mend="free some space, or choose another folder") from error


def read_json(file: Path) -> Any:
    """What a file holds; None where it is missing, no plain file, too large to be ours, or damaged."""
    try:
        return json.loads(read_small(file, _MOST)) if file.exists() else None
    except (CheckpointError, OSError, ValueError, RecursionError):
        return None
