"""A run folder belongs to one process at a time; a killed owner gives it up, one on another host never does."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

import secateur as sc
from secateur.engine import lock as lock_module
from secateur.engine.runfolder import RunFolder

OWNER = """
import sys
from secateur.engine.runfolder import RunFolder
folder = RunFolder(sys.argv[1], {"a": 1})
print("held", flush=True)
sys.stdin.read()
"""
CONFIG = {"a": 1}


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the run folder."""
    command = [sys.executable, "-c", OWNER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def left_by(host: str, folder: Path, **owner: float) -> None:
    """A lock file as a process that is gone left it."""
    RunFolder(folder, CONFIG).close()
    (folder / ".lock").write_text(json.dumps({"pid": os.getpid(), "host": host, "started": 0.0} | owner))


def test_a_folder_in_use_is_refused_by_process_and_host_and_left_whole(tmp_path, owner):
    before = contents(tmp_path / "run")
    with pytest.raises(sc.CheckpointError, match=f"process {owner.pid} on host {lock_module.platform.node()} works in"):
        RunFolder(tmp_path / "run", CONFIG)
    assert contents(tmp_path / "run") == before


def owner_told(folder):
    """Process id and start of the owner that the lock names."""
    told = json.loads((folder / ".lock").read_text())
    return told["pid"], told["started"]


def test_the_folder_of_a_killed_owner_is_taken_over(tmp_path, owner):
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert (tmp_path / "run" / ".lock").exists()
    with RunFolder(tmp_path / "run", CONFIG):
        assert json.loads((tmp_path / "run" / ".lock").read_text())["pid"] == os.getpid()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["run.json"]


def test_a_reused_process_id_is_not_taken_for_the_owner(tmp_path):
    left_by(lock_module.platform.node(), tmp_path / "run")
    with RunFolder(tmp_path / "run", CONFIG):
        assert owner_told(tmp_path / "run") == (os.getpid(), lock_module.psutil.Process().create_time())


def test_the_lock_of_another_host_is_never_taken_over_and_the_error_says_how(tmp_path):
    left_by("elsewhere", tmp_path / "run", pid=4242)
    before = contents(tmp_path / "run")
    with pytest.raises(sc.CheckpointError, match=r"4242 on host elsewhere(.|\n)*delete .*\.lock"):
        RunFolder(tmp_path / "run", CONFIG)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(("started", "alive"), [(None, True), (0.0, False)])
def test_where_the_kernel_has_no_locks_process_id_and_start_decide(tmp_path, monkeypatch, started, alive):
    monkeypatch.setattr(lock_module, "fcntl", None)
    own = lock_module.psutil.Process().create_time()
    left_by(lock_module.platform.node(), tmp_path / "run", started=own if started is None else started)
    if alive:
        with pytest.raises(sc.CheckpointError, match=f"process {os.getpid()} "):
            RunFolder(tmp_path / "run", CONFIG)
    else:
        RunFolder(tmp_path / "run", CONFIG).close()


def test_the_same_process_cannot_open_a_folder_twice(tmp_path):
    with RunFolder(tmp_path / "run", CONFIG), pytest.raises(sc.CheckpointError, match=f"process {os.getpid()} "):
        RunFolder(tmp_path / "run", CONFIG)
    RunFolder(tmp_path / "run", CONFIG).close()


def test_a_fork_neither_holds_the_folder_nor_gives_it_back(tmp_path):
    folder = RunFolder(tmp_path / "run", CONFIG)
    pid = os.fork()
    if pid == 0:
        folder.close()
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(sc.CheckpointError, match="works in this folder"):
        RunFolder(tmp_path / "run", CONFIG)
    folder.close()


def test_a_fork_that_outlives_its_owner_does_not_keep_the_folder(tmp_path):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        RunFolder(tmp_path / "run", CONFIG)
        if os.fork() == 0:
            os.close(write)
            os.read(read, 1)  # lives until the test closes the pipe
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert owner_told(tmp_path / "run")[0] == pid
    with RunFolder(tmp_path / "run", CONFIG):
        assert owner_told(tmp_path / "run")[0] == os.getpid()
    os.close(write)
    os.close(read)


def test_of_processes_that_train_together_only_the_first_holds_the_folder(tmp_path):
    with RunFolder(tmp_path / "run", CONFIG):
        RunFolder(tmp_path / "run", CONFIG, writes=False)
    with pytest.raises(sc.CheckpointError, match="another recipe"):
        RunFolder(tmp_path / "run", {"a": 2}, writes=False)


def test_a_run_that_fails_gives_the_folder_back(tmp_path):
    recipe = sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Custom(lambda w: w / 0))
    model = nn.Linear(4, 4)
    for _ in range(2):
        with pytest.raises(sc.NumericsError):
            sc.prune(model, recipe, sparsity=0.5, run=tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["run.json"]


def test_many_processes_at_one_dead_lock_let_one_in(tmp_path):
    left_by(lock_module.platform.node(), tmp_path / "run")
    script = OWNER.replace("folder =", "from secateur.core import CheckpointError\ntry:\n    folder =").replace(
        'print("held"', 'except CheckpointError:\n    sys.exit("refused")\nprint("held"'
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    rivals = [subprocess.Popen(command, **pipes, text=True) for _ in range(3)]  # type: ignore[call-overload]
    heads = [r.stdout.readline() for r in rivals]
    told = [r.communicate()[1].strip() for r in rivals]
    assert sorted(heads) == ["", "", "held\n"]
    assert sorted(told) == ["", "refused", "refused"]


@pytest.mark.parametrize("other", [lambda f: os.mkfifo(f), lambda f: f.symlink_to("run.json"), lambda f: f.mkdir()])
def test_a_lock_that_is_no_plain_file_is_a_clear_error(tmp_path, other):
    RunFolder(tmp_path / "run", CONFIG).close()
    other(tmp_path / "run" / ".lock")
    with pytest.raises(sc.CheckpointError, match="no plain file"):
        RunFolder(tmp_path / "run", CONFIG)
