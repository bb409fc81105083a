"""A worker of a comparison: `python -m secateur.engine.worker` answers each JSON line with a row."""

import json
import os
import queue
import sys
import threading
from functools import cache
from pathlib import Path

from .bench import Bench, bench_from
from .cells import run_cell


def answer(job: str) -> str:
    """The row of one cell, both as JSON: what any engine calls in a process of its own."""
    given = json.loads(job)
    return json.dumps(run_cell(given["config"], Path(given["cells"]), _bench(json.dumps(given["bench"]))))


@cache
def _bench(names: str) -> Bench:
    return bench_from(**json.loads(names))


def main() -> None:
    """Answer jobs from standard input until it ends; where it ends in the middle of a job, the parent died."""
    jobs: queue.Queue[str | None] = queue.Queue()
    busy = threading.Event()

    def read() -> None:
        for line in sys.stdin:
            busy.set()
            jobs.put(line)
        if busy.is_set():
            os._exit(1)  # nobody waits for the answer, and the next call wants this run folder: a kill is safe
        jobs.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := jobs.get()) is not None:
        row = answer(line)
        busy.clear()
        sys.stdout.write(row + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
