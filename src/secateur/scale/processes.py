"""A pool of worker processes: one JSON job a line in, one JSON answer a line out. Nothing is pickled.

A worker that dies takes down one attempt at one job, not the sweep.
"""

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .waiting import Line

Json = dict[str, Any]


def run_jobs(
    command: Sequence[str],
    jobs: Sequence[Json],
    workers: int,
    done: Callable[[int, Json], None],
    *,
    needs: Sequence[int | None] | None = None,
    attempts: int = 2,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run jobs on worker processes, in the order given as workers become free.

    Args:
        command: starts a worker, which reads a job a line from standard input and answers each with a line.
        jobs: plain data.
        workers: how many processes at most.
        done: called with a job's index and its answer, from one thread at a time; `{"error": ...}` when every attempt
            lost its worker.
        needs: for each job the index of the one that must be done before it starts, or None.
        attempts: how often a job whose worker died is tried.
        environment: variables to add.

    Raises:
        KeyboardInterrupt: workers are ended first. So are they when `done` raises.
    """
    line = Line(needs if needs is not None else [None] * len(jobs), attempts)
    lock = threading.Lock()
    crew: list[_Worker] = []
    faults: list[BaseException] = []

    def serve() -> None:
        worker = _Worker(command, environment)
        crew.append(worker)
        while (index := line.take()) is not None:
            answer = worker.ask(jobs[index])
            if answer is None:
                if line.closed:
                    return
                worker.restart()
                if line.again(index):
                    continue
                answer = {"error": f"its process ended {attempts} times without an answer"}
            with lock:
                done(index, answer)
            line.end(index)
        worker.close()

    def guarded() -> None:
        try:
            serve()
        except BaseException as error:  # raised again in the caller's thread
            faults.append(error)
            line.close()

    threads = [threading.Thread(target=guarded, daemon=True) for _ in range(min(workers, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        while any(t.is_alive() for t in threads):
            for thread in threads:
                thread.join(0.2)
            if faults:
                raise faults[0]
    except BaseException:
        line.close()
        for worker in crew:
            worker.kill()
        raise
    if faults:
        raise faults[0]


class _Worker:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self.restart()

    def restart(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends its workers
        )

    def ask(self, job: Json) -> Json | None:
        """The worker's answer; None where it died."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            return dict(json.loads(line)) if line else None
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """End of work: the worker sees the end of its input."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def kill(self) -> None:
        """End it now; what it was doing lies in its run folder."""
        self._process.kill()
        self._process.wait()
