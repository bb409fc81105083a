"""What `prune` and `run` share: names to objects, one call of `sc.prune`, one saved folder."""

from pathlib import Path
from typing import Any

from secateur.core.errors import CheckpointError

from .example import of_shape


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
    **options: Any,
) -> dict[str, Any]:
    """Prune the named model and save the result; gives its measures as plain data."""
    from secateur.engine.prune import prune
    from secateur.engine.rng import seeded
    from secateur.engine.sources import model_from, task_from

    goal = task_from(task) if task is not None else None
    with seeded(seed):
        subject = model_from(model, factory=factory, masks=True)
    example = of_shape(subject, shape) if shape is not None else None
    result = prune(subject, method, sparsity=sparsity, task=goal, example=example, seed=seed, **options, **settings)
    found: dict[str, Any] = {
        "before": dict(result.before),
        "after": dict(result.after),
        "sparsity": dict(result.sparsity),
        "provenance": dict(result.provenance),
    }
    if output is not None:
        found["folder"] = str(result.save(output))
        parts = (
            Path(output).glob("*.safetensors")
            if Path(output).is_dir()
            else Path(output).parent.glob(f"{Path(output).name}*")
        )
        found["bytes_on_disk"] = sum(p.stat().st_size for p in parts)
    return found
