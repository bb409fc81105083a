"""Folders that appear whole or not at all: filled under a temporary name, flushed, renamed."""

import contextlib
import glob
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from secateur.core import CheckpointError
from secateur.core.files import unwritable


def write_folder(folder: str | Path, fill: Callable[[Path], None], overwrite: bool = False) -> Path:
    """Make a folder whole or not at all.

    Args:
        fill: writes the files into the folder that it is given.

    Raises:
        CheckpointError: it is there already and `overwrite` is false, or it cannot be written.
    """
    folder = Path(folder)
    try:
        put_back(folder)
        if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(
                "it is there already", where=str(folder), mend="choose another folder, or overwrite=True"
            )
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        temporary = folder.absolute().parent / f".{folder.name}.saving-{secrets.token_hex(4)}"
        temporary.mkdir()
        try:
            fill(temporary)
            for file in temporary.iterdir():
                _flush(file)
            _swap(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise unwritable(folder, error) from error
    return folder


def as_it_was(folder: Path) -> Path:
    """Where a folder lies: at its name, or aside if its writer was killed between two renames. Changes nothing."""
    aside = _aside(folder)
    return aside if not folder.exists() and aside.is_dir() else folder


def put_back(folder: Path) -> None:
    """No file system swaps two folders everywhere, so a kill between two renames leaves the old one aside."""
    if as_it_was(folder) != folder:
        _aside(folder).replace(folder)


def _flush(file: Path) -> None:
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _swap(temporary: Path, folder: Path) -> None:
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.replace(aside)
    try:
        temporary.replace(folder)
    finally:
        put_back(folder)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(aside)


def _aside(folder: Path) -> Path:
    return folder.absolute().parent / f".{folder.name}.old"


def _sweep(folder: Path) -> None:
    """Remove what a killed writer of this folder left."""
    for half in folder.absolute().parent.glob(f".{glob.escape(folder.name)}.saving-*"):
        shutil.rmtree(half, ignore_errors=True)
