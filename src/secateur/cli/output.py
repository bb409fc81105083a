"""What a command shows: results on standard output, everything else on standard error."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PATIENCE_S = 2.0
_LINE_EVERY_S = 10.0


def print_json(value: Any) -> None:
    """Print plain data as JSON, and nothing else."""
    print(json.dumps(value, indent=1, default=repr))


@contextmanager
def progress() -> Iterator[None]:
    """A bar in a terminal, a line now and then in a log, for work over two seconds; always on standard error."""
    from secateur.core.progress import showing

    if sys.stderr.isatty():
        with _bar() as show, showing(show):
            yield
    else:
        with showing(_Lines()):
            yield


@contextmanager
def _bar() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(title: str, done: int, total: int) -> None:
            if title not in tasks:
                for old in tasks.values():
                    bar.remove_task(old)
                tasks.clear()
                tasks[title] = bar.add_task(title, total=total or None)
            bar.update(tasks[title], completed=done, total=total or None)

        yield show


class _Lines:
    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def __call__(self, title: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._start > _PATIENCE_S and now - self._last > _LINE_EVERY_S:
            self._last = now
            print(f"{title}: {done} of {total or '?'}", file=sys.stderr, flush=True)
