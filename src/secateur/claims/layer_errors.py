"""How much of what each layer gives is lost, from second moments of its dense inputs."""

import copy

import torch
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.core import InputGram, Recipe, Task
from secateur.structures import Weights


@torch.no_grad()
def lost_outputs(
    model: nn.Module, recipe: Recipe, task: Task, sparsity: float | None, gram: InputGram, batches: int = 4
) -> dict[str, float]:
    """The relative squared error of each matrix's outputs on its dense inputs; the model is pruned in place.

    Args:
        batches: of the task's training data, for the recipe and for the moments alike.
    """
    few = [batch for batch, _ in zip(task.batches("train"), range(batches), strict=False)]
    space = Weights().find(model)
    moments = collect(model, space, (gram,), task, few)
    dense = copy.deepcopy({g.name: g.weight.double() for g in space})
    sc.prune(model, recipe, sparsity=sparsity, task=task, batches=batches, device="cpu")
    errors = {}
    for group in Weights().find(model):
        H, W = moments[group.name, gram].double(), dense[group.name]
        lost = W - group.weight.double()
        errors[group.name] = float((lost @ H * lost).sum() / (W @ H * W).sum())
    return errors
