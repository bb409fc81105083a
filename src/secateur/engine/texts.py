"""Tasks made of text: what a language model is calibrated on, and what its perplexity is measured on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.core import RecipeError, Task, require
from secateur.tasks.language import Windows, language_task, random_windows

_LONGEST, _DATASET = 2048, "dataset:"


def tokens_of(source: str, model: str) -> Tensor:
    """The token ids of a text, tokenized at once.

    Args:
        source: a text file; a `.npy` array of ids; or "dataset:NAME", "dataset:NAME:CONFIG:SPLIT:COLUMN" of the hub,
            read by `datasets`, its entries joined by blank lines (by default the split "train" and the column "text").
        model: a folder or hub name with the tokenizer.

    Raises:
        RecipeError: there is no such text, or ids that are none.
    """
    path = Path(source)
    if path.suffix == ".npy" and path.is_file():
        found = np.load(path, allow_pickle=False)
        if found.dtype.kind not in "iu":
            raise RecipeError(f"an array of {found.dtype} holds no token ids", where=source, mend="save integers")
        return torch.from_numpy(found.astype(np.int64)).flatten()
    if source.startswith(_DATASET):
        text = _of_dataset(source.removeprefix(_DATASET))
    elif path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RecipeError(f"it is no text: {error}", where=source, mend="give a file in UTF-8") from error
    else:
        mend = "a text file, an array .npy of token ids, or dataset:NAME"
        raise RecipeError("there is no such text", where=source, mend=mend)
    require("transformers", extra="llm", where=source)
    import transformers

    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as error:
        told = str(error).splitlines()[0]
        raise RecipeError(
            f"there is no tokenizer: {told}",
            where=model,
            mend="put its files beside the model, or give token ids (.npy)",
        ) from error
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt", verbose=False).input_ids[0]
    assert isinstance(ids, Tensor)
    return ids


def save_tokenizer(source: str, folder: str | Path) -> bool:
    """Put what makes a model's inputs (a tokenizer, an image processor) into a folder; says whether there was one.

    Args:
        source: the model's folder or hub name.
    """
    require("transformers", extra="llm", where=source)
    import transformers

    for kind in ("AutoProcessor", "AutoTokenizer"):
        try:
            found = getattr(transformers, kind).from_pretrained(source, local_files_only=Path(source).exists())
        except (OSError, ValueError, KeyError, ImportError):
            continue
        found.save_pretrained(folder)
        return True
    return False


def _of_dataset(name: str) -> str:
    require("datasets", extra="llm", where=name)
    import datasets

    name, config, split, column = (*name.split(":"), "", "", "")[:4]
    found = datasets.load_dataset(name, config or None, split=split or "train")
    column = column or "text"
    if column not in found.column_names:
        raise RecipeError(f"it has no column {column!r}", where=name, mend=f"one of {', '.join(found.column_names)}")
    return "\n\n".join(found[column])


def calibration_task(
    source: str, model: str, config: Any, *, windows: int = 128, length: int | None = None, seed: int = 0
) -> Task:
    """A task whose training data is windows of a text, drawn at random; it measures nothing but their loss.

    Args:
        source: as of `tokens_of`.
        config: of the model, which tells its context and its vocabulary.
        length: tokens in a window; by default the model's context, 2,048 at most.
    """
    ids = _checked(tokens_of(source, model), config, source)
    length = length or context_of(config)
    if len(ids) < length + 1:
        raise RecipeError(
            f"it has {len(ids)} tokens, and a window has {length}",
            where=source,
            mend="more text, or a smaller --length",
        )
    drawn = random_windows(ids, length, windows, seed)
    made = language_task(drawn, Windows(ids[:length], length), f"{windows} windows of {length} tokens", batch_size=1)
    return replace(made, metrics={})


def perplexity(model: nn.Module, ids: Tensor, length: int, batch_size: int = 4) -> dict[str, Any]:
    """Perplexity in non-overlapping full windows, each seen alone, and the protocol that it depends on.

    exp of the mean cross-entropy of the T - 1 tokens of each window that have others before them; what does not fill a
    window is dropped. No token is added. It is not the word perplexity of lm-evaluation-harness.

    Raises:
        RecipeError: the text does not fill one window.
    """
    many = Windows(ids, length)
    if not len(many):
        raise RecipeError(
            f"{len(ids)} tokens do not fill a window of {length}",
            where="perplexity",
            mend="more text, or a smaller length",
        )
    task = language_task(many, many, f"{len(many)} windows of {length} tokens", batch_size=batch_size)
    found = task.evaluate(model)["perplexity"]
    return {"perplexity": found, "windows": len(many), "length": length, "tokens": len(many) * length}


def context_of(config: Any) -> int:
    """How many tokens a window has by default."""
    return min(int(getattr(config, "max_position_embeddings", 0) or _LONGEST), _LONGEST)


def _checked(ids: Tensor, config: Any, where: str) -> Tensor:
    vocabulary = int(getattr(config, "vocab_size", 0) or 0)
    largest = int(ids.max()) if len(ids) else 0
    if vocabulary and largest >= vocabulary:
        raise RecipeError(
            f"token {largest} does not exist: the model knows {vocabulary}",
            where=where,
            mend="the tokenizer is not the model's own; give the right folder",
        )
    return ids


def harness(model: nn.Module, source: str, tasks: list[str], limit: int | None = None) -> Mapping[str, Any]:
    """What lm-evaluation-harness measures on a model as it is, so that non-uniform ones need no export."""
    require("lm_eval", extra="llm", where="--lm-eval")
    import lm_eval
    import transformers
    from lm_eval.models.huggingface import HFLM

    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer)
    found: Mapping[str, Any] = lm_eval.simple_evaluate(model=wrapped, tasks=tasks, limit=limit)
    return {
        "results": found["results"],
        "versions": found.get("versions"),
        "n-shot": found.get("n-shot"),
        "limit": limit,
    }
