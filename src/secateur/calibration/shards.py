"""Checkpoints of transformers in shards: read tensor by tensor, written part by part."""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from secateur.core import CheckpointError
from secateur.core.files import once, read_small, unwritable

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_MOST_JSON = 64 << 20


class Shards:
    """The tensors of a folder that transformers wrote, none of them in memory.

    Raises:
        CheckpointError: there are no weights in safetensors; a shard is missing or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, str] = {}
        self._told: dict[str, tuple[int, torch.dtype]] = {}
        if (folder / _INDEX).is_file():
            self.files = _index(folder / _INDEX)
        elif (folder / _SINGLE).is_file():
            self.files = dict.fromkeys(self._read_header(_SINGLE), _SINGLE)
        else:
            raise CheckpointError(
                f"there is neither {_SINGLE} nor {_INDEX}",
                where=str(folder),
                mend="give a folder that transformers wrote: model.save_pretrained(folder)",
            )
        for file in sorted(set(self.files.values())):
            found = self._read_header(file)
            missing = [n for n, f in self.files.items() if f == file and n not in found]
            if missing:
                raise self._broken(file, f"tensor {missing[0]!r} is not in it")

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __getitem__(self, name: str) -> Tensor:
        """A copy in memory: the file is mapped for no longer than it takes, so that its pages do not pile up."""
        file = self.files[name]
        try:
            return read_tensor(self.folder / file, name)
        except (SafetensorError, OSError) as error:
            raise self._broken(file, str(error)) from error

    def bytes_of(self, name: str) -> int:
        """How large a tensor is, without reading it."""
        return self._told[name][0]

    def dtype_of(self, name: str) -> torch.dtype:
        """In which type a tensor is stored, without reading it."""
        return self._told[name][1]

    def _read_header(self, file: str) -> set[str]:
        path = self.folder / file
        if not path.is_file():
            raise self._broken(file, "it is missing")
        try:
            with safe_open(path, framework="pt") as found:
                names = set(found.keys())
                for name in names:
                    piece = found.get_slice(name)
                    shape = piece.get_shape()
                    dtype = piece[tuple(slice(0, 1) for _ in shape)].dtype if shape else found.get_tensor(name).dtype
                    self._told[name] = math.prod(shape) * dtype.itemsize, dtype
                return names
        except (SafetensorError, OSError) as error:
            raise self._broken(file, str(error)) from error

    def _broken(self, file: str, why: str) -> CheckpointError:
        told = f"shard {file!r} cannot be read: {why}"
        return CheckpointError(told, where=str(self.folder), mend="fetch it again, or restore it from a copy")


def read_tensor(file: Path, name: str) -> Tensor:
    """A copy of one tensor of a file."""
    with safe_open(file, framework="pt") as found:
        tensor: Tensor = found.get_tensor(name)
        return tensor.clone()


class ShardWriter:
    """Writes the tensors of parts, each as a shard of its own that appears whole or not at all.

    Args:
        folder: made if it is not there; shards that are there already count as written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob(".*.half"):
            half.unlink()

    def write(self, part: str, tensors: Mapping[str, Tensor]) -> None:
        """Write a part.

        Raises:
            CheckpointError: the place cannot be written, or is full.
        """
        half = self.folder / f".{part}.half"
        try:
            save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, half, {"format": "pt"})
            with half.open("rb") as file:
                os.fsync(file.fileno())
            half.rename(self.folder / f"{part}.safetensors")
        except OSError as error:
            half.unlink(missing_ok=True)
            raise unwritable(self.folder, error) from error
        except SafetensorError as error:  # it wraps errors of the system
            half.unlink(missing_ok=True)
            raise unwritable(self.folder, OSError(str(error))) from error

    def read(self, part: str, name: str) -> Tensor:
        """A tensor of a part that was written."""
        try:
            return read_tensor(self.folder / f"{part}.safetensors", name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"what was written of {part!r} cannot be read: {error}", where=str(self.folder), mend="remove that file"
            ) from error

    def index(self, parts: Iterable[str]) -> None:
        """Write which tensor lies in which shard, as transformers reads it."""
        places: dict[str, str] = {}
        size = 0
        for part in parts:
            file = f"{part}.safetensors"
            with safe_open(self.folder / file, framework="pt") as found:
                places |= dict.fromkeys(found.keys(), file)
            size += (self.folder / file).stat().st_size
        told = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        (self.folder / _INDEX).write_text(json.dumps(told, indent=1))


def _index(file: Path) -> dict[str, str]:
    try:
        found = json.loads(read_small(file, _MOST_JSON).decode(), object_pairs_hook=once)["weight_map"]
        named = {str(name): str(place) for name, place in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the index cannot be read: {error!r}", where=str(file), mend="restore it from a copy"
        ) from error
    if any(Path(place).name != place for place in named.values()):
        raise CheckpointError("a shard lies outside the folder", where=str(file), mend="restore it from a copy")
    return named
