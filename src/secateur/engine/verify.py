"""Does a saved folder give what it gave when it was saved? Every folder carries one small input and its output."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse

from secateur.core import CheckpointError

from .base import Factory
from .checkpoint import load
from .result import probe_outputs


def verify(folder: str | Path, factory: Factory | None = None) -> dict[str, Any]:
    """Load the folder, run its stored input, compare with its stored output.

    Returns:
        `identical` (bit for bit) and `max_difference`.

    Raises:
        CheckpointError: the folder is damaged, or carries no stored output.
    """
    folder = Path(folder)
    model = load(folder, factory=factory)
    file = folder / "probe.safetensors"
    if not file.is_file():
        raise CheckpointError(
            "it carries no stored output to compare with",
            where=str(folder),
            mend="save a result that was made with a task or an example of one tensor",
        )
    probe = parse(file.read_bytes())
    outputs = probe_outputs(model, probe["inputs"])
    assert outputs is not None
    difference = (
        (outputs.cpu().double() - probe["outputs"].double()).abs().max() if outputs.numel() else torch.zeros(())
    )
    return {"identical": bool(torch.equal(outputs.cpu(), probe["outputs"])), "max_difference": float(difference)}
