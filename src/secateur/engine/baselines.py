"""What pruning is compared with: the dense model of a seed, and a small dense model of equal size."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from secateur.core import Plan, RecipeError, Task

from .bench import Bench
from .fairness import of_size, parameters_left
from .measure import measure
from .result import Result, provenance
from .rng import seeded
from .runfolder import RunFolder
from .tensors import save_state
from .training import Device, train_

Json = dict[str, Any]


def dense_(model: nn.Module, task: Task, config: Json, folder: Path, trained: bool) -> Result:
    """The start of every cell of this seed: kept as it came and as trained, in place; saved like any result."""
    with RunFolder(folder / "run", config) as run:
        save_state(folder / "initial.safetensors", dict(model.state_dict()))
        steps, curve = 0, {}
        if not trained:
            trainer = train_(model, task, seed=config["seed"], device=Device(config["device"]), title="dense", run=run)
            steps, curve = trainer.done, trainer.curve.to_json()
        save_state(folder / "trained.safetensors", dict(model.state_dict()))
        return _saved(model, task, "dense", config, run, steps, curve)


def small_dense(dense: nn.Module, task: Task, config: Json, folder: Path, bench: Bench) -> Result:
    """A narrower dense model with as many parameters as pruning leaves, trained from scratch for as long in all."""
    if bench.narrow is None:
        raise RecipeError("nobody said how to make a narrower model", where="small_dense", mend="give a factory")
    seed = config["seed"]
    width = of_size(bench.narrow, parameters_left(dense, task, config["sparsity"], config["structure"]))
    with seeded(seed):
        model = bench.narrow(width)
    longer = replace(task.training, epochs=task.training.epochs + config["heal"])
    goal, device = replace(task, training=longer), Device(config["device"])
    with RunFolder(folder / "run", config) as run:
        trainer = train_(model, goal, seed=seed, device=device, title="small-dense", run=run)
        return _saved(model, task, "small-dense", config, run, trainer.done, trainer.curve.to_json(), width=width)


def _saved(
    model: nn.Module, task: Task, name: str, config: Json, run: RunFolder, steps: int, curve: Json, **facts: Any
) -> Result:
    example = next(iter(task.batches("test", shuffle=False)))
    result = Result(
        model,
        Plan(),
        None,
        after=measure(model, task, example)[0],
        provenance=provenance(None, name, seed=config["seed"], train_steps=steps, **facts),
        curve=curve,
        example=example[0] if isinstance(example, tuple | list) else None,
    )
    result.save(run.result, overwrite=True)
    run.clear()
    return result
