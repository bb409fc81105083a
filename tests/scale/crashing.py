"""A job for a Ray worker that dies the first time it is asked."""

import json
import os
import signal
from pathlib import Path


def answer(job: str) -> str:
    """The job's number, and how often it was tried; dies as long as it was tried less than the job wants."""
    given = json.loads(job)
    tries = Path(given["folder"]) / str(given["number"])
    with tries.open("a") as file:
        file.write("x")
    tried = tries.stat().st_size
    if tried <= given.get("dies", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if given.get("raises"):
        raise ValueError("this job cannot be done")
    return json.dumps({"number": given["number"], "tried": tried})
