"""Runs jobs on a local Ray cluster of two workers and prints the answers: python ray_driver.py FOLDER."""

import json
import sys
from pathlib import Path

from secateur.scale import run_ray_jobs

here = str(Path(__file__).parent)
jobs = [{"folder": sys.argv[1], "number": n, "dies": d} for n, d in enumerate([0, 1, 0, 9])]
jobs.append({"folder": sys.argv[1], "number": 4, "raises": True})
answers = {}
environment = {"PYTHONPATH": here}
needs = [None, None, 1, None, None]
run_ray_jobs("crashing:answer", jobs, 2, answers.__setitem__, needs=needs, environment=environment)
print(json.dumps([answers[i] for i in range(len(jobs))]))  # noqa: T201
