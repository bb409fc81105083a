"""A worker of `run_claim`: `python -m secateur.claims.worker` answers each JSON line with the figures of one seed."""

import contextlib
import importlib
import json
import sys

from .claim import get
from .run import measured


def main() -> None:
    """Read jobs from standard input until it ends; what a claim prints goes to standard error."""
    for line in sys.stdin:
        job = json.loads(line)
        importlib.import_module(job["module"])  # registers the claim in this process
        try:
            with contextlib.redirect_stdout(sys.stderr):
                answer = measured(get(job["id"]), job["seed"])
        except Exception as error:  # whatever breaks is this seed's answer, and the parent says so
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
