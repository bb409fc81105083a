"""Run folder: the state of a long run on disk, so that a killed run goes on where it was.

A run folder belongs to one configuration and, while somebody works in it, to one process (`.lock`). It holds `run.json`
(the configuration and its fingerprint), at most one `state.safetensors`, snapshots to rewind to, blocks that are pruned
already, notes of a decision that takes long, and in the end the saved result.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from secateur.core import CheckpointError
from secateur.core.files import once, read_small, unwritable

from .lock import Lock
from .tensors import load_state, save_state, write_atomically

FORMAT = 1
_HALF_WRITTEN = (
    ".state.safetensors.*",
    ".snapshot-*.safetensors.*",
    ".block-*.safetensors.*",
    ".notes.safetensors.*",
    ".result.*",
    ".lock.*",
)
_MOST_JSON = 16 << 20
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


def fingerprint(config: Mapping[str, Any]) -> str:
    """A short hash of a configuration in plain data."""
    text = json.dumps(config, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RunFolder:
    """The folder of one run, held until `close` or the end of a `with`.

    Args:
        path: made if it is not there.
        config: plain data; the folder of another configuration is refused and left alone.
        every_s: seconds between two states on disk; 0 writes at every step.
        writes: whether this process owns the folder; of several that train together only the first does, and the
            others just read.

    Raises:
        CheckpointError: the folder belongs to another configuration, is no run folder, cannot be written, or another
            process works in it.
    """

    def __init__(
        self, path: str | Path, config: Mapping[str, Any], every_s: float = 20.0, *, writes: bool = True
    ) -> None:
        self.path = Path(path)
        self.every_s, self._writes = every_s, writes
        self._last = time.monotonic()
        self._lock: Lock | None = None
        file = self.path / "run.json"
        if (
            not os.path.lexists(file)
            and self.path.is_dir()
            and any(not p.name.startswith(".") for p in self.path.iterdir())
        ):
            raise CheckpointError(
                "the folder is not empty and holds no run", where=str(self.path), mend="choose another folder"
            )
        wanted = {"format": FORMAT, "fingerprint": fingerprint(config), "config": config}
        if not writes:
            if file.exists():
                _check(file, wanted)
            return
        self._take()
        try:
            self._open(file, wanted)
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.path / ".lock")
        except CheckpointError:
            raise
        except OSError as error:
            if error.errno in _UNWRITABLE and self.finished:
                return  # a finished run on a read-only medium is only read
            raise unwritable(self.path, error) from error

    def _open(self, file: Path, wanted: Mapping[str, Any]) -> None:
        if not os.path.lexists(file):
            write_atomically(file, json.dumps(wanted, indent=1, default=repr).encode())
            return
        _check(file, wanted)
        if self._lock is not None:
            self._sweep(*_HALF_WRITTEN)

    def close(self) -> None:
        """Let another process work in the folder; doing it twice is no error."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def result(self) -> Path:
        """Where the finished result lies."""
        return self.path / "result"

    @property
    def finished(self) -> bool:
        """Whether the result is there."""
        return (self.result / "secateur.json").exists()

    def due(self) -> bool:
        """Whether it is time to write the state again."""
        return time.monotonic() - self._last >= self.every_s

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the state on disk, whole or not at all."""
        save_state(self.path / "state.safetensors", state)
        self._last = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """The last state; None before the first."""
        file = self.path / "state.safetensors"
        return load_state(file) if os.path.lexists(file) else None

    def write_snapshot(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Keep what the subject is at a step, to rewind to."""
        save_state(self.path / f"snapshot-{step}.safetensors", dict(tensors))

    def read_snapshot(self, step: int) -> dict[str, Tensor] | None:
        """The snapshot of a step, if there is one."""
        file = self.path / f"snapshot-{step}.safetensors"
        return load_state(file) if os.path.lexists(file) else None

    def write_block(self, move: int, number: int, state: Mapping[str, Any]) -> None:
        """Keep what a block has become in a move; of several processes only the one that writes does."""
        if self._writes:
            save_state(self.path / f"block-{move}-{number}.safetensors", state)

    def blocks(self, move: int) -> int:
        """How many blocks are finished in a move."""
        number = 0
        while os.path.lexists(self.path / f"block-{move}-{number}.safetensors"):
            number += 1
        return number

    def read_block(self, move: int, number: int) -> dict[str, Any]:
        """What was kept of a block."""
        return load_state(self.path / f"block-{move}-{number}.safetensors")  # type: ignore[no-any-return]

    def write_notes(self, move: int, what: str, state: Mapping[str, Any]) -> None:
        """Keep how far some work for the decision of a move has come, in place of what was noted before."""
        if self._writes:
            save_state(self.path / "notes.safetensors", {"move": move, "what": what, "state": dict(state)})
            self._last = time.monotonic()

    def read_notes(self, move: int, what: str) -> dict[str, Any] | None:
        """How far some work for the decision of a move had come; None where the last notes are none of it."""
        file = self.path / "notes.safetensors"
        found = load_state(file) if os.path.lexists(file) else {}
        return found["state"] if (found.get("move"), found.get("what")) == (move, what) else None

    def clear(self) -> None:
        """Remove the state, snapshots, blocks and notes of a finished run, and what killed writers left."""
        if self._lock is not None:
            whole = ("state.safetensors", "snapshot-*.safetensors", "block-*.safetensors", "notes.safetensors")
            self._sweep(*whole, ".run.json.*", *_HALF_WRITTEN)

    def _sweep(self, *patterns: str) -> None:
        for found in [f for pattern in patterns for f in self.path.glob(pattern)]:
            if found.is_dir():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)


def _check(file: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse the `run.json` of another run."""
    found = _read_json(file)
    if found.get("format") != FORMAT:
        raise CheckpointError(
            f"the run folder has format {found.get('format')!r}; this version writes {FORMAT}",
            where=str(file),
            mend="use the version that made it, or another folder",
        )
    if found.get("fingerprint") != wanted["fingerprint"]:
        raise CheckpointError(
            f"the run folder belongs to another recipe: {_difference(found.get('config'), wanted['config'])}",
            where=str(file),
            mend="choose another folder, or repeat that recipe to resume it",
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_small(file, _MOST_JSON).decode(), object_pairs_hook=once)
    except (CheckpointError, ValueError, RecursionError) as error:
        what = error.what if isinstance(error, CheckpointError) else f"the file cannot be read: {error}"
        raise CheckpointError(what, where=str(file), mend="delete the run folder to start again") from error
    if not isinstance(found, dict):
        raise CheckpointError("the file is no run", where=str(file), mend="delete the run folder to start again")
    return found


def _difference(found: Any, wanted: Mapping[str, Any]) -> str:
    found = found if isinstance(found, dict) else {}
    plain = json.loads(json.dumps(wanted, default=repr))
    keys = sorted(k for k in plain.keys() | found.keys() if plain.get(k) != found.get(k))
    return ", ".join(f"{k} is {found.get(k)!r} there and {plain.get(k)!r} here" for k in keys[:2])[:300]
