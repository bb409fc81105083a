"""The one progress hook: work reports here, and whoever runs the work decides what is shown.

The library itself shows nothing. The command line installs a bar in a terminal and a line now and then in a log.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Reporter = Callable[[str, int, int], None]


def _silent(title: str, done: int, total: int) -> None:
    """Show nothing: the library's default."""


_reporter: ContextVar[Reporter] = ContextVar("secateur_progress", default=_silent)


def report(title: str, done: int, total: int) -> None:
    """Say that `done` of `total` parts of the work called `title` are finished."""
    _reporter.get()(title, done, total)


@contextmanager
def showing(reporter: Reporter) -> Iterator[None]:
    """Send progress to `reporter` while the block runs."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)
