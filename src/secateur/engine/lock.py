"""Lock of a run folder: one process at a time, and a killed owner gives it up.

A lock of the kernel (flock) on the lock file tells the living from the dead: it vanishes with its process, in whatever
way that dies, and a reused process id cannot be taken for it. The file's content names the owner, for messages and for
what no kernel sees: an owner on another host is never taken for dead. `filelock` has either half, but not both.
"""

import contextlib
import errno
import json
import os
import platform
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from secateur.core import CheckpointError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_TRIES, _PAUSE_S = 5, 0.05
_SAME_START_S = 2.0  # the clock of the boot time is coarse
_held: "set[Lock]" = set()


class Lock:
    """Held from construction to `release` or the end of the process; a fork of the owner does not hold it.

    Args:
        file: the lock file, in a folder that is there.

    Raises:
        CheckpointError: somebody else holds it; names process and host. Nothing was changed.
        OSError: the folder cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._handle: int | None = None
        for _ in range(_TRIES):
            self._handle = _claim(file)
            if self._handle is not None:
                _held.add(self)
                return
            time.sleep(_PAUSE_S)  # another one takes it over just now, or gives it back
        raise _in_use(file, _owner(file))

    def release(self) -> None:
        """Remove the file and let go; doing it twice is no error."""
        if self._handle is None:
            return
        with contextlib.suppress(OSError):
            if _is_at(self._handle, self.file):
                self.file.unlink()
        self._forget()

    def _forget(self) -> None:
        """Close the handle; a parent that has it too goes on holding the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
            _held.discard(self)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """A folder that is made and belongs to this process for the length of a block; `CheckpointError` as of `Lock`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder / ".lock")
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(str(error), where=str(folder), mend="choose a folder that can be written") from error
    try:
        yield
    finally:
        lock.release()


def _forget_all() -> None:
    for lock in list(_held):
        lock._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _claim(file: Path) -> int | None:
    """The handle of our own lock file, in its place and locked; None where another one holds it.

    The file is written and locked under a name of its own and then linked, so it is never seen half-written or free.
    """
    old = _open(file)
    try:
        if old is not None and not (_is_stale(old, file) and _is_at(old, file)):
            return None
        own = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        handle = _write(own)
        try:
            if old is not None:
                os.replace(own, file)  # noqa: PTH105, the old one is locked by us: nobody else is here
            else:
                os.link(own, file)
        except (FileExistsError, FileNotFoundError):
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        finally:
            own.unlink(missing_ok=True)
        return handle
    finally:
        if old is not None:
            os.close(old)


def _open(file: Path) -> int | None:
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise OSError(errno.EINVAL, "the lock is no plain file", str(file))
        return os.open(file, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None


def _write(file: Path) -> int:
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    owner = {"pid": os.getpid(), "host": platform.node(), "started": psutil.Process().create_time()}
    os.write(handle, json.dumps(owner).encode())
    _lock(handle)
    return handle


def _lock(handle: int) -> bool | None:
    """Whether the kernel gave us the lock; None where this system or file system has none."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_stale(handle: int, file: Path) -> bool:
    """Whether the owner is surely dead; then nobody else can find so until the handle is closed."""
    owner = _owner(file)
    got = _lock(handle)
    if owner.get("host") != platform.node():
        return False
    return not _runs(owner) if got is None else got


def _runs(owner: Mapping[str, Any]) -> bool:
    try:
        began = float(psutil.Process(int(owner["pid"])).create_time())
        return abs(began - float(owner["started"])) < _SAME_START_S
    except psutil.AccessDenied:
        return True
    except (psutil.Error, KeyError, TypeError, ValueError):
        return False


def _is_at(handle: int, file: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), file.lstat())
    except FileNotFoundError:
        return False


def _owner(file: Path) -> dict[str, Any]:
    """What the lock file tells; empty where it is gone or not ours."""
    try:
        with file.open("rb") as opened:
            found = json.loads(opened.read(1 << 12))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_use(file: Path, owner: Mapping[str, Any]) -> CheckpointError:
    pid, host = owner.get("pid", "unknown"), owner.get("host", "unknown")
    here = host == platform.node()
    return CheckpointError(
        f"process {pid} on host {host} works in this folder",
        where=str(file.parent),
        mend="wait for it, end it, or choose another folder"
        if here
        else f"if that process is gone, delete {file}; else choose another folder",
    )
