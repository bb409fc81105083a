"""A worker of a comparison: `python -m secateur.engine.worker` answers each JSON line with a row."""

import json
import sys
from pathlib import Path

from .cells import Bench, bench_from, run_cell


def main() -> None:
    """Read jobs from standard input until it ends."""
    bench: Bench | None = None
    for line in sys.stdin:
        job = json.loads(line)
        config = job["config"]
        if bench is None:
            bench = bench_from(config["model"], config["task"], config["train"])
        row = run_cell(config, Path(job["cells"]), bench)
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
