"""A full disk or a read-only one: a clear error, what was there is still whole, nothing half-written stays."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core.progress import showing
from secateur.engine.runfolder import RunFolder
from secateur.engine.tensors import write_atomically
from secateur.tasks import builtin_task


class Disk:
    """A place that can become full or read-only, and be mended again."""

    def __init__(self, place: Path, fill: Callable[[], None], free: Callable[[], None], lock: Callable[[], None]):
        self.place, self.fill, self.free, self.lock = place, fill, free, lock


def mounted(place: Path, request: pytest.FixtureRequest) -> Disk:
    """A small file system in memory."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting a file system is not allowed here")
    request.addfinalizer(lambda: subprocess.run(["umount", "-l", place], check=True))
    ballast = place / "ballast"

    def fill() -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def lock() -> None:
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)

    return Disk(place, fill, lambda: ballast.unlink(missing_ok=True), lock)


def pretended(place: Path, request: pytest.FixtureRequest) -> Disk:
    """Where nothing can be mounted: writing fails where the disk is flushed, making files where a name is made."""
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)

    def failing(code: int) -> Callable[..., None]:
        def fail(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        return fail

    def lock() -> None:
        for name in ("link", "mkdir", "fsync", "replace"):
            patch.setattr(os, name, failing(errno.EROFS))
        for name in ("mkdir", "replace", "rename"):
            patch.setattr(Path, name, failing(errno.EROFS))

    return Disk(place, lambda: patch.setattr(os, "fsync", failing(errno.ENOSPC)), patch.undo, lock)


@pytest.fixture(params=[mounted, pretended], ids=["mounted", "pretended"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    yield request.param(place, request)


def result(value: float = 1.0, size: int = 64) -> sc.Result:
    model = nn.Linear(size, size)
    nn.init.constant_(model.weight, value)
    return sc.prune(model, "magnitude", sparsity=0.5)


def names(disk: Disk) -> list[str]:
    return sorted(str(p.relative_to(disk.place)) for p in disk.place.rglob("*") if p.name != "ballast")


def test_a_result_that_finds_no_room_says_how_to_mend_it_and_leaves_nothing(disk):
    disk.fill()
    with pytest.raises(sc.CheckpointError, match=r"No space left(.|\n)*where: .*pruned(.|\n)*free some space"):
        result().save(disk.place / "pruned")
    assert names(disk) == []


def test_a_result_that_finds_no_room_over_an_old_one_leaves_that_whole(disk):
    result(1.0).save(disk.place / "pruned")
    before = names(disk)
    disk.fill()
    with pytest.raises(sc.CheckpointError, match="free some space"):
        result(2.0).save(disk.place / "pruned", overwrite=True)
    assert names(disk) == before
    assert sc.load(disk.place / "pruned").weight.max() == 1.0


def test_a_file_that_finds_no_room_leaves_the_old_one_whole(disk):
    file = disk.place / "row.json"
    write_atomically(file, b"old")
    disk.fill()
    with pytest.raises(sc.CheckpointError, match="free some space"):
        write_atomically(file, bytes(1 << 16))
    assert (names(disk), file.read_bytes()) == (["row.json"], b"old")


def test_a_state_that_finds_no_room_leaves_the_former_one(disk):
    with RunFolder(disk.place / "run", {"a": 1}) as run:
        run.write({"w": torch.zeros(9000)})
        before = names(disk)
        disk.fill()
        with pytest.raises(sc.CheckpointError, match=r"state\.safetensors(.|\n)*free some space"):
            run.write({"w": torch.ones(9000)})
        assert names(disk) == before
        assert run.read()["w"].sum() == 0


def test_a_run_stops_on_a_full_disk_and_goes_on_from_the_former_state_when_there_is_room(disk, tmp_path):
    task = builtin_task("digits")
    task = sc.Task(**{**vars(task), "training": sc.Training(epochs=1, optimizer="sgd", lr=0.05), "batch_size": 260})

    def prune(folder: Path) -> sc.Result:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        return sc.prune(model, "gmp", sparsity=0.5, task=task, run=folder, save_every_s=0)

    steps: list[int] = []

    def full_at_three(title: str, done: int, total: int) -> None:
        steps.append(done)
        if done == 3:
            disk.fill()

    whole = prune(tmp_path / "whole")
    with showing(full_at_three), pytest.raises(sc.CheckpointError, match="free some space"):
        prune(disk.place / "run")
    assert names(disk) == ["run", "run/run.json", "run/state.safetensors"]
    assert steps[-1] < 5
    disk.free()
    steps.clear()
    with showing(lambda title, done, total: steps.append(done)):
        resumed = prune(disk.place / "run")
    assert steps[0] > 1
    assert all(torch.equal(a, b) for a, b in zip(whole.subject.parameters(), resumed.subject.parameters(), strict=True))


def test_a_result_on_a_read_only_disk_loads(disk):
    result().save(disk.place / "pruned")
    disk.lock()
    assert sc.load(disk.place / "pruned").weight.max() == 1.0
    assert sc.load_keep(disk.place / "pruned").sparsity == 0.5


def test_a_result_that_a_killed_writer_left_aside_loads_from_a_read_only_disk(disk):
    result().save(disk.place / "pruned")
    (disk.place / "pruned").rename(disk.place / ".pruned.old")
    disk.lock()
    assert sc.load(disk.place / "pruned").weight.max() == 1.0
    assert sc.load_keep(disk.place / "pruned").sparsity == 0.5


def test_a_result_cannot_be_saved_on_a_read_only_disk_and_the_error_says_so(disk):
    disk.lock()
    with pytest.raises(sc.CheckpointError, match="choose a place that can be written"):
        result().save(disk.place / "pruned")


def test_a_run_cannot_begin_on_a_read_only_disk_and_the_error_says_so(disk):
    disk.lock()
    with pytest.raises(sc.CheckpointError, match="choose a place that can be written"):
        RunFolder(disk.place / "run", {"a": 1})


def test_a_finished_run_on_a_read_only_disk_gives_its_result(disk):
    def prune() -> sc.Result:
        torch.manual_seed(0)
        return sc.prune(nn.Linear(8, 8), "magnitude", sparsity=0.5, run=disk.place / "run")

    first = prune()
    before = names(disk)
    disk.lock()
    assert torch.equal(prune().subject.weight, first.subject.weight)
    assert names(disk) == before
