"""Manifest of a pruned data set: sorted sample ids, one a line, with the size of the whole in the first line."""

import contextlib
import os
from pathlib import Path

import torch
from torch import Tensor

from secateur.core import CheckpointError, Keep
from secateur.core.files import open_plain, unwritable

_HEAD = "# samples of "
_MOST_SAMPLES, _LONGEST_LINE = 1 << 30, 40


def write_ids(keep: Keep, path: str | Path) -> int:
    """Write the ids of the samples that stay; gives their number. A file that is there is refused.

    Raises:
        CheckpointError: the keep is not one of samples, or the file is there.
    """
    if set(keep) != {"samples"}:
        raise CheckpointError(
            f"the keep has the groups {', '.join(keep)}", where=str(path), mend="give a keep of the structure Samples"
        )
    ids = keep["samples"].flatten().nonzero().flatten().tolist()
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(f"{_HEAD}{keep['samples'].numel()}\n" + "".join(f"{i}\n" for i in ids))
    except FileExistsError as error:
        raise CheckpointError("the file is there already", where=str(path), mend="choose another name") from error
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(path).unlink()
        raise unwritable(Path(path), error) from error
    return len(ids)


def read_ids(path: str | Path) -> Keep:
    """The keep that `write_ids` wrote.

    Raises:
        CheckpointError: damaged: no head, an id that is no number, twice there, or outside the data set.
    """
    try:
        with os.fdopen(open_plain(Path(os.path.realpath(path))), "rb") as file:
            size = int(file.readline(_LONGEST_LINE).decode().removeprefix(_HEAD))
            most = min(size, _MOST_SAMPLES) * _LONGEST_LINE
            if os.fstat(file.fileno()).st_size > most + _LONGEST_LINE:
                raise ValueError(f"it is too long for {size} samples")
            ids = [int(line) for line in file.read().decode().splitlines()]
    except (IndexError, ValueError) as error:
        raise _damaged(str(error)[:200], path) from error
    if not 0 <= size <= _MOST_SAMPLES:
        raise _damaged(f"no data set has {size} samples", path)
    if ids != sorted(set(ids)) or any(not 0 <= i < size for i in ids):
        raise _damaged("ids are not sorted, stand twice, or lie outside the data set", path)
    mask: Tensor = torch.zeros(size, dtype=torch.bool)
    mask[ids] = True
    return Keep({"samples": mask})


def _damaged(what: str, path: str | Path) -> CheckpointError:
    return CheckpointError(f"it is no list of samples: {what}", where=str(path), mend="write it again")
