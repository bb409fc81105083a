"""One pruned model of a comparison: a method under the protocol that all share."""

import copy
from pathlib import Path
from typing import Any

from torch import nn

from secateur.core import Recipe, Task, registry

from .bench import Bench
from .fairness import leg_epochs
from .methods import adapted, implied_target, seeing
from .prune import prune
from .result import Result
from .tensors import load_state
from .training import fresh_

Json = dict[str, Any]


def pruned(dense: nn.Module, task: Task, config: Json, folder: Path, start: Path, bench: Bench) -> tuple[Result, bool]:
    """Prune the dense model, or its initialisation where the method wants that.

    Args:
        dense: the trained model; left as it is.
        start: the folder of the dense cell.

    Returns:
        The result, and whether it began from the trained model, so that its training counts too.
    """
    entry = registry.get(config["method"]).entry
    from_dense = entry.start != "init"
    model = copy.deepcopy(dense)
    if not from_dense and bench.trained:
        fresh_(model, task, config["seed"])
    elif not from_dense:
        model.load_state_dict(load_state(start / "initial.safetensors"))
    result = prune(
        model,
        config["method"],
        sparsity=config["sparsity"],
        structure=config["structure"],
        task=task,
        heal=_leg(model, task, config, from_dense),
        recovery=config["recovery"],
        seed=config["seed"],
        device=config["device"],
        run=folder / "run",
        **config["settings"],
    )
    return result, from_dense


def _leg(model: nn.Module, task: Task, config: Json, from_dense: bool) -> float:
    """Epochs of each leg under the comparison's budget."""
    recipe = registry.get(config["method"]).recipe(**config["settings"])
    if config["budget"] == "own" or not isinstance(recipe, Recipe):
        return float(config["heal"])
    # whoever begins at the initialisation may train for as long as the dense start was trained as well
    epochs = config["heal"] if from_dense else config["heal"] + task.training.epochs
    recipe = adapted(recipe, config["structure"], None)
    recipe = seeing(recipe, model, task, next(iter(task.batches("test", shuffle=False))))
    target = implied_target(recipe, recipe.structure.find(model), config["sparsity"])
    return leg_epochs(task, recipe, target, epochs)
