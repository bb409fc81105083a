"""A sweep in many processes: same seed, same result on any engine; killed anywhere, it goes on and loses nothing."""

import json
import os
import signal
import time

import psutil
import pytest
from sweeping import same, write_mine

import commands
import secateur as sc
from secateur.core import CheckpointError

WHAT = {"methods": ["magnitude", "imp(share=0.4)"], "sparsity": [0.5, 0.7], "seeds": 2, "heal": 4}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    return write_mine(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module")
def unbroken(mine, tmp_path_factory):
    """What one process gives that nobody disturbs."""
    folder = tmp_path_factory.mktemp("unbroken")
    found = sc.compare(**WHAT, **mine, folder=folder)
    assert not found.failed
    return same(found.rows, folder / "cells")


def outcome(folder):
    rows = json.loads((folder / "results.json").read_text())["rows"]
    return same(rows, folder / "cells")


def half_written(folder):
    return [p for p in folder.rglob("*") if p.name.startswith(".") or p.name.startswith("state")]


def start(mine, folder, workers=2):
    """The same comparison by the command line, slowed down so that there is time to kill it."""
    given = ["-m", "magnitude,imp(share=0.4)", "-s", "0.5,0.7", "--seeds", "2", "--heal", "4", "--train"]
    words = [mine["model"], "-t", mine["task"], *given, "-w", str(workers), "-o", str(folder)]
    return commands.started("compare", *words)


def wait_for(condition, process, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert process.runs() and time.monotonic() < end, process.ended(0)
        time.sleep(0.01)


def workers_of(process):
    return [p for p in psutil.Process(process.pid).children() if "secateur.engine.worker" in p.cmdline()]


def finish(process):
    done = process.ended(240)
    assert done.returncode == 0, done.stderr


def test_two_workers_give_what_one_process_gives(mine, unbroken, tmp_path):
    found = sc.compare(**WHAT, **mine, folder=tmp_path / "c", workers=2)
    assert same(found.rows, tmp_path / "c" / "cells") == unbroken


def test_a_sweep_whose_parent_was_killed_goes_on_with_what_is_missing(mine, unbroken, tmp_path):
    folder = tmp_path / "c"
    slow = {**mine, "task": mine["task"].replace(":task", ":slow_task")}
    process = start(slow, folder)
    wait_for(lambda: len(list(folder.glob("cells/*/row.json"))) >= 3, process)
    crew = workers_of(process)
    os.kill(process.pid, signal.SIGKILL)
    process.ended()
    _, alive = psutil.wait_procs(crew, timeout=10)
    assert not alive  # orphans would work on, and hold the folders of their cells
    done = {p: p.read_bytes() for p in folder.glob("cells/*/row.json")}
    assert 3 <= len(done) < 10
    finish(start(slow, folder))
    assert {p: p.read_bytes() for p in done} == done
    assert half_written(folder) == []
    assert numbers(outcome(folder)) == numbers(unbroken)


def numbers(told):
    """What a comparison found, without the names of its cells: another task's name is another hash."""
    rows, hashes = told
    return [{k: v for k, v in row.items() if k != "folder"} for row in rows], hashes


def test_a_cell_whose_worker_was_killed_is_tried_again(mine, unbroken, tmp_path):
    folder = tmp_path / "c"
    slow = {**mine, "task": mine["task"].replace(":task", ":slow_task")}
    process = start(slow, folder)
    wait_for(lambda: list(folder.glob("cells/*/run/.lock")), process)
    workers_of(process)[0].kill()
    finish(process)
    assert numbers(outcome(folder)) == numbers(unbroken)


def test_ctrl_c_ends_the_workers_and_says_that_the_command_goes_on(mine, tmp_path):
    folder = tmp_path / "c"
    process = start({**mine, "task": mine["task"].replace(":task", ":slow_task")}, folder)
    wait_for(lambda: list(folder.glob("cells/*/run/.lock")), process)
    crew = workers_of(process)
    os.kill(process.pid, signal.SIGINT)
    done = process.ended(60)
    assert done.returncode == 130 and "interrupted" in done.stderr and "Traceback" not in done.stderr
    assert not psutil.wait_procs(crew, timeout=10)[1]


def test_a_second_comparison_in_the_same_folder_is_refused_and_names_the_first(mine, tmp_path):
    folder = tmp_path / "c"
    process = start({**mine, "task": mine["task"].replace(":task", ":slow_task")}, folder)
    wait_for(lambda: (folder / "comparison.json").exists(), process)
    try:
        with pytest.raises(CheckpointError, match=f"process {process.pid} "):
            sc.compare(**WHAT, **mine, folder=folder)
    finally:
        os.kill(process.pid, signal.SIGINT)
        process.ended(60)


def _compare(arguments):
    sc.compare(**arguments)


def test_a_local_ray_cluster_gives_what_one_process_gives(mine, unbroken, tmp_path):
    pytest.importorskip("ray", reason="the extra 'scale' is not installed")
    arguments = WHAT | mine | {"folder": str(tmp_path / "c"), "workers": 2, "engine": "ray"}
    done = commands.forked(_compare, arguments)
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "c") == unbroken
