"""Jobs in line: which one may start next, when some need others first and some are tried again."""

import threading
from collections.abc import Sequence


class Line:
    """Hands out the numbers of jobs, in order, each after the one that it needs.

    Safe to use from several threads.

    Args:
        needs: for each job the number of the one that must have ended before, or None.
        attempts: how often a job is handed out at most.
    """

    def __init__(self, needs: Sequence[int | None], attempts: int = 1) -> None:
        self._needs, self._attempts = needs, attempts
        self._waiting = list(range(len(needs)))
        self._tried = [0] * len(needs)
        self._ended = [False] * len(needs)
        self._changed = threading.Condition()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether nothing more is handed out."""
        return self._closed

    def take(self, wait: bool = True) -> int | None:
        """The next job that may start; None when none is left, or, without waiting, when none may start yet."""
        with self._changed:
            while not self._closed:
                for place, job in enumerate(self._waiting):
                    need = self._needs[job]
                    if need is None or self._ended[need]:
                        del self._waiting[place]
                        self._tried[job] += 1
                        return job
                if all(self._ended) or not wait:
                    return None
                self._changed.wait()
        return None

    def end(self, job: int) -> None:
        """It was answered."""
        with self._changed:
            self._ended[job] = True
            self._changed.notify_all()

    def again(self, job: int) -> bool:
        """Put a job back whose worker died; False when it was tried often enough."""
        with self._changed:
            if self._tried[job] >= self._attempts:
                return False
            self._waiting.insert(0, job)
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
