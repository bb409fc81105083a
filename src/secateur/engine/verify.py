"""Does a saved folder give what it gave when it was saved? Every folder carries one small input and its output."""

from pathlib import Path
from typing import Any

import torch

from secateur.core import CheckpointError

from .base import Factory
from .checkpoint import load
from .folders import as_it_was
from .reading import read_tensors
from .result import probe_outputs


def verify(folder: str | Path, factory: Factory | None = None) -> dict[str, Any]:
    """Load the folder, run its stored input, compare with its stored output.

    Returns:
        `identical` (bit for bit) and `max_difference`.

    Raises:
        CheckpointError: the folder is damaged, or carries no stored output.
    """
    folder = as_it_was(Path(folder))
    model = load(folder, factory=factory, verify="sha256")
    file = folder / "probe.safetensors"
    if not file.is_file():
        raise CheckpointError(
            "it carries no stored output to compare with",
            where=str(folder),
            mend="save a result that was made with a task or an example of one tensor",
        )
    probe = read_tensors(file)
    if probe.keys() != {"inputs", "outputs"}:
        raise CheckpointError("it holds no probe", where=str(file), mend="restore the folder")
    try:
        outputs = probe_outputs(model, probe["inputs"])
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"its stored input does not fit the model: {str(error)[:300]}", where=str(file), mend="restore the folder"
        ) from error
    wanted = probe["outputs"]
    if outputs is None or outputs.shape != wanted.shape:
        raise CheckpointError(
            "its stored output has another shape than the model's", where=str(file), mend="restore the folder"
        )
    difference = (outputs.cpu().double() - wanted.double()).abs().max() if outputs.numel() else torch.zeros(())
    return {"identical": bool(torch.equal(outputs.cpu(), wanted)), "max_difference": float(difference)}
