"""Manifest of a pruned data set: sorted sample ids, one a line, with the size of the whole in the first line."""

from pathlib import Path

import torch
from torch import Tensor

from secateur.core import CheckpointError, Keep

_HEAD = "# samples of "


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
    return len(ids)


def read_ids(path: str | Path) -> Keep:
    """The keep that `write_ids` wrote.

    Raises:
        CheckpointError: damaged: no head, an id that is no number, twice there, or outside the data set.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    try:
        size = int(lines[0].removeprefix(_HEAD))
        ids = [int(line) for line in lines[1:]]
    except (IndexError, ValueError) as error:
        raise _damaged(str(error), path) from error
    if ids != sorted(set(ids)) or any(not 0 <= i < size for i in ids):
        raise _damaged("ids are not sorted, stand twice, or lie outside the data set", path)
    mask: Tensor = torch.zeros(size, dtype=torch.bool)
    mask[ids] = True
    return Keep({"samples": mask})


def _damaged(what: str, path: str | Path) -> CheckpointError:
    return CheckpointError(f"it is no list of samples: {what}", where=str(path), mend="write it again")
