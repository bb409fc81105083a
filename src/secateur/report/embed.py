"""JSON inside HTML, so that nothing in it can end the script element or start a comment."""

import json
from collections.abc import Hashable
from typing import Any

_HARMFUL = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def script_json(value: Any) -> str:
    """JSON as the text of a `<script type="application/json">`: pure ASCII without a `<`, a `>` or a `&`.

    Such characters occur only inside JSON strings, where an escape means the same. Line separators such as U+2028
    are escaped because they are not ASCII.
    """
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(_HARMFUL)


def rounded(value: float | None, digits: int = 4) -> float | int | None:
    """With so many significant digits; an integer where it is whole, because that is shorter."""
    if value is None:
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


class Pool:
    """Values that many runs share, stored once: `pool.index(value)` is what a run holds."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._at: dict[Hashable, int] = {}

    def index(self, value: Any) -> int:
        """Where the value lies; values are alike where their JSON is."""
        key = json.dumps(value, default=repr)
        if key not in self._at:
            self._at[key] = len(self.values)
            self.values.append(value)
        return self._at[key]
