"""What `prune` and `run` share: names to objects, one call of `sc.prune`, one saved folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur.core.errors import CheckpointError

from .example import of_shape


def prune_larger(
    *,
    model: str,
    method: Any,
    settings: dict[str, Any],
    output: str,
    sparsity: float | None,
    structure: str | None,
    recovery: str | None,
    memory: str,
    calibrate: str | None,
    windows: int,
    length: int | None,
    seed: int,
    device: str | None,
) -> dict[str, Any]:
    """Prune a folder of transformers from disk to disk; gives what it did as plain data."""
    import transformers

    from secateur.core import RecipeError
    from secateur.engine.larger import prune_folder

    if calibrate is None:
        raise RecipeError("there is no text to calibrate on", where="--memory", mend="--calibrate FILE")
    config = transformers.AutoConfig.from_pretrained(model)
    done = prune_folder(
        model,
        method,
        output,
        task=_calibrated(calibrate, model, config, windows, length, seed),
        sparsity=sparsity,
        structure=structure,
        recovery=recovery,
        memory=bytes_of(memory),
        batches=windows,
        seed=seed,
        device=device or "cpu",
        **settings,
    )
    return {"folder": str(done.folder), "sparsity": done.sparsity, "bound": done.bound, "blocks": done.blocks}


def bytes_of(text: str) -> int:
    """ "8GiB", "500 MB" or a number of bytes. Raises `RecipeError`."""
    from secateur.core import RecipeError

    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    number = text.strip().rstrip("KMGiBkmgb ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        return int(float(number) * units[unit])
    except (ValueError, KeyError):
        raise RecipeError(f"{text!r} is no size of memory", where="--memory", mend="8GiB") from None


def _calibrated(source: str, model: str, config: Any, windows: int, length: int | None, seed: int) -> Any:
    from secateur.engine.texts import calibration_task

    return calibration_task(source, model, config, windows=windows, length=length, seed=seed)


def measure_language(
    model: str,
    tokenizer: str,
    text: str | None,
    length: int | None,
    windows: int | None,
    tasks: list[str] | None,
    limit: int | None,
) -> dict[str, Any]:
    """Perplexity on a text, and tasks of lm-evaluation-harness, of the named model."""
    from secateur.engine.sources import model_from
    from secateur.engine.texts import context_of, harness, perplexity, tokens_of

    subject = model_from(model).eval()
    found: dict[str, Any] = {}
    if text is not None:
        ids, width = tokens_of(text, tokenizer), length or context_of(getattr(subject, "config", None))
        found |= perplexity(subject, ids if windows is None else ids[: windows * width], width)
    if tasks is not None:
        found |= harness(subject, tokenizer, tasks, limit)
    return found


def check_apart(one: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Raise `RecipeError` if a flag is given beside another that it does not go with; None is not given."""
    from secateur.core import RecipeError

    given = [[flag for flag, value in side.items() if value is not None] for side in (one, others)]
    if all(given):
        raise RecipeError(
            f"{given[1][0]} does not go with {given[0][0]}", where=given[0][0], mend="leave one of the two out"
        )


def check_output(output: str | None) -> None:
    """Raise `CheckpointError` before any work if the output is there already."""
    path = Path(output) if output else None
    if path is not None and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise CheckpointError("it is there already", where=str(path), mend="choose another name with -o")


def prune_and_save(
    *,
    model: str,
    method: Any,
    settings: dict[str, Any],
    output: str | None,
    sparsity: float | None,
    task: str | None,
    seed: int,
    shape: str | None = None,
    factory: str | None = None,
    calibrate: str | None = None,
    windows: int = 128,
    length: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Prune the named model and save the result; gives its measures as plain data."""
    from secateur.engine.prune import prune
    from secateur.engine.rng import seeded
    from secateur.engine.sources import model_from, task_from
    from secateur.engine.texts import save_tokenizer

    goal = task_from(task) if task is not None else None
    with seeded(seed):
        subject = model_from(model, factory=factory, masks=True)
    example = of_shape(subject, shape) if shape is not None else None
    if calibrate is not None:
        goal, options["batches"] = _calibrated(calibrate, model, subject.config, windows, length, seed), windows
    result = prune(subject, method, sparsity=sparsity, task=goal, example=example, seed=seed, **options, **settings)
    found: dict[str, Any] = {
        "before": dict(result.before),
        "after": dict(result.after),
        "sparsity": dict(result.sparsity),
        "provenance": dict(result.provenance),
        "history": list(result.history),
    }
    if output is not None:
        found["folder"] = str(result.save(output))
        if hasattr(result.subject, "save_pretrained") and Path(output).is_dir():
            save_tokenizer(model, output)
        parts = (
            Path(output).glob("*.safetensors")
            if Path(output).is_dir()
            else Path(output).parent.glob(f"{Path(output).name}*")
        )
        found["bytes_on_disk"] = sum(p.stat().st_size for p in parts)
    return found
