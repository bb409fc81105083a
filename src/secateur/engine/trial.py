"""How good a subject is when only some units stay: measured on a copy, for budgets that try before they decide."""

import copy
from dataclasses import fields, is_dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from secateur.core import Choice, Keep, Structure, Task
from secateur.recovery import recalibrate_bn_


class MeasuredTrial:
    """The task's first metric of a copy from which all other units are gone, higher is better; without metrics, -loss.

    Measured on the task's "valid" data where it has some, else on training data: the test data is not for choosing.

    Args:
        model: as it is now; it is copied.
        structure: removes the units; cuts on copies are not proven.
        batches: how many batches are read at most.
        recalibrate: whether batch norms are measured anew on training batches first, as a recipe that does so at the
            end is judged fairly only in that way.
    """

    def __init__(
        self, model: nn.Module, structure: Structure, task: Task, batches: int, recalibrate: bool = False
    ) -> None:
        self._model, self._structure, self._task = model, unproven(structure), task
        self._batches, self._recalibrate = batches, recalibrate
        self._data: list[object] | None = None
        self._known: dict[bytes, float] = {}

    def __call__(self, keep: Keep) -> float:
        """What is left when this stays. The same keep is measured once."""
        key = b"".join(name.encode() + mask.cpu().numpy().tobytes() for name, mask in sorted(keep.masks.items()))
        if key not in self._known:
            with torch.no_grad():
                twin = copy.deepcopy(self._model)
                if keep.sparsity:
                    sight: Any = getattr(self._structure, "_sight", None)
                    if sight is not None:
                        sight.adopt(self._model, twin)
                    twin, _ = self._structure.apply_(twin, Choice(keep))
            self._known[key] = self._measured(twin)
        return self._known[key]

    def _measured(self, model: nn.Module) -> float:
        if self._data is None:
            split = "train" if self._task.valid is None else "valid"
            self._data = list(islice(self._task.batches(split, shuffle=False), self._batches))
        if self._recalibrate:
            recalibrate_bn_(model, islice(self._task.batches("train", shuffle=False), self._batches), self._task)
        found = replace(self._task, test=self._data).evaluate(model)
        first = next(iter(self._task.metrics), "loss")
        return -found[first] if first in self._task.lower_is_better else found[first]


def unproven(structure: Structure) -> Structure:
    """The structure without proofs of its cuts, where it proves them; what it saw of its subject goes along."""
    if not (is_dataclass(structure) and any(f.name == "verify" for f in fields(structure))):
        return structure
    made: Structure = replace(structure, verify=False)
    for name in set(vars(structure)) - {f.name for f in fields(structure)}:
        object.__setattr__(made, name, vars(structure)[name])
    return made
