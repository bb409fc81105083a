"""Jobs on a Ray cluster: two local workers, some of which die."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra 'scale' is not installed")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    command = [sys.executable, str(Path(__file__).with_name("ray_driver.py")), str(tmp_path_factory.mktemp("tries"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_jobs_are_answered_in_their_places(answers):
    assert [a.get("number") for a in answers[:3]] == [0, 1, 2]


def test_a_job_whose_worker_was_killed_is_tried_again(answers):
    assert answers[1]["tried"] == 2


def test_a_job_that_kills_every_worker_is_an_error(answers):
    assert "ended 2 times" in answers[3]["error"]


def test_a_job_that_raises_is_an_error_of_its_own(answers):
    assert "this job cannot be done" in answers[4]["error"]
