"""Reading what anybody may have written: bounded, checked, nothing executed, every text made harmless."""

import json
import math
import re
from pathlib import Path
from typing import Any

from secateur.core.errors import CheckpointError
from secateur.core.files import read_small

MOST_ROW = 4 << 20
MOST_COMPARISON = 16 << 20
_AGAIN = "restore it from a copy, or remove it and run the cell again"
# control characters, and those that turn the direction of what follows
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def read_json(file: Path, most: int) -> dict[str, Any]:
    """A file that holds a JSON object.

    Args:
        most: bytes that it may have.

    Raises:
        CheckpointError: it is missing, no plain file, too large, or no JSON object.
    """
    where = str(file)
    try:
        found = json.loads(read_small(file, most))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"it is no JSON: {error}", where=where, mend=_AGAIN) from error
    if not isinstance(found, dict):
        raise CheckpointError("it is no JSON object", where=where, mend=_AGAIN)
    return found


def text(value: Any, most: int = 200) -> str:
    """A value as text that can be shown: no lone surrogates, no control characters, at most `most` long."""
    if value is None:
        return ""
    whole = value if isinstance(value, str) else json.dumps(value, default=repr)
    clean = _INVISIBLE.sub("\ufffd", whole[: most + 1].encode("utf-8", "replace").decode("utf-8"))
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def number(value: Any) -> float | None:
    """A finite number; None for anything else, booleans too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def plain(value: Any, most: int = 20_000) -> Any:
    """Free JSON (a recipe, settings) with clean texts; as a cut text where it is larger than `most` characters."""
    try:
        whole = json.dumps(value, default=repr, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        return text(repr(value), 500)
    return _clean(value) if len(whole) <= most else text(whole, most)


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {text(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return text(value, 4000) if isinstance(value, str) else value
