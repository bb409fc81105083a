"""A pool of worker processes: one JSON job a line in, one JSON answer a line out. Nothing is pickled.

A worker that dies takes down one attempt at one job, not the sweep.
"""

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Json = dict[str, Any]


def run_jobs(
    command: Sequence[str],
    jobs: Sequence[Json],
    workers: int,
    done: Callable[[int, Json], None],
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
        attempts: how often a job whose worker died is tried.
        environment: variables to add.

    Raises:
        KeyboardInterrupt: workers are ended first.
    """
    waiting: queue.Queue[tuple[int, int]] = queue.Queue()
    for index in range(len(jobs)):
        waiting.put((index, 0))
    lock = threading.Lock()
    stop = threading.Event()
    crew: list[_Worker] = []

    def serve() -> None:
        worker = _Worker(command, environment)
        crew.append(worker)
        while not stop.is_set():
            try:
                index, tried = waiting.get_nowait()
            except queue.Empty:
                break
            answer = worker.ask(jobs[index])
            if answer is None and not stop.is_set():
                worker.restart()
                if tried + 1 < attempts:
                    waiting.put((index, tried + 1))
                    continue
                answer = {"error": f"its process ended {attempts} times without an answer"}
            if answer is not None:
                with lock:
                    done(index, answer)
        worker.close()

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(workers, len(jobs)))]
    for thread in threads:
        thread.start()
    try:
        while any(t.is_alive() for t in threads):
            for thread in threads:
                thread.join(0.2)
    except BaseException:
        stop.set()
        for worker in crew:
            worker.kill()
        raise


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
