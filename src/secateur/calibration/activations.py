"""What flows between two blocks, batch by batch: in memory, or on disk where that is too small."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from secateur.core import CheckpointError
from secateur.core.files import unwritable


class Activations:
    """One tensor for each batch; the next block's overwrite those of the block before.

    Args:
        folder: where they lie on disk; None keeps them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._held: dict[int, Tensor] = {}
        self._meta: dict[int, tuple[torch.Size, torch.dtype, torch.device]] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __setitem__(self, batch: int, value: Tensor) -> None:
        value = value.detach()
        if self._folder is None:
            # copied, so that what lies between temporary tensors can go back to the system as a whole
            held = self._held.get(batch)
            if held is not None and (held.shape, held.dtype, held.device) == (value.shape, value.dtype, value.device):
                held.copy_(value)
            else:
                self._held[batch] = value.clone()
            return
        self._meta[batch] = value.shape, value.dtype, value.device
        try:
            value.cpu().contiguous().view(torch.uint8).numpy().tofile(self._file(batch))
        except OSError as error:
            raise unwritable(self._folder, error) from error

    def __getitem__(self, batch: int) -> Tensor:
        if self._folder is None:
            return self._held[batch]
        shape, dtype, device = self._meta[batch]
        found = torch.from_numpy(np.fromfile(self._file(batch), np.uint8)).view(dtype)
        if found.numel() != shape.numel():
            raise CheckpointError(
                "activations are cut off", where=str(self._file(batch)), mend="free space on the disk and run again"
            )
        return found.reshape(shape).to(device)

    def clear(self) -> None:
        """Forget them all, on disk too."""
        self._held.clear()
        for batch in self._meta:
            self._file(batch).unlink(missing_ok=True)
        self._meta.clear()

    def _file(self, batch: int) -> Path:
        assert self._folder is not None
        return self._folder / f"activations-{batch}.bin"
