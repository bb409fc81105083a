"""Pruned models of transformers, loaded as one loads any of theirs."""

from pathlib import Path
from typing import Any

from secateur.core import CheckpointError, require
from secateur.engine.checkpoint import load


def from_pretrained(folder: str | Path, *, device: Any = "cpu", verify: str = "xxh3") -> Any:
    """The pruned model of a saved folder, in eval mode, whose `generate` works with its cache.

    Layers may differ in their numbers of heads and hidden units, which no `config.json` can say, so
    `AutoModel.from_pretrained` cannot read such a folder: the architecture is built from the config and the plan is
    replayed on it.

    Args:
        folder: what `Result.save` wrote.
        device: where the tensors go.
        verify: the digest that every byte is verified by: "xxh3" or "sha256".

    Raises:
        CheckpointError: the folder is damaged, or holds no model of transformers.
        MissingExtra: transformers is not installed.
    """
    require("transformers", extra="llm", where=str(folder))
    import transformers

    model = load(folder, device=device, verify=verify)
    if not isinstance(model, transformers.PreTrainedModel):
        raise CheckpointError(
            f"it holds a {type(model).__name__}, which is no model of transformers",
            where=str(folder),
            mend="use sc.load(folder)",
        )
    return model
