r"""Inner distillation: the dense model teaches block by block (Aflalo et al., "Knapsack Pruning", 2020, section 3.4).

    loss = loss_task + weight / n  sum_{i<=n} mse( P_i student_i, teacher_i )

Both models run side by side, each on its own activations; the n-th block is the output. Where a block has lost
channels, P_i is a learned linear map without bias from what is left to what there was; elsewhere it is nothing.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secateur.core import Healing, RecipeError, Recovery, Task

from .listening import always, recorder, while_training
from .projections import Projections


def block_loss(
    student: Float[Tensor, "..."], teacher: Float[Tensor, "..."], widen: Float[Tensor, "dense kept"] | None, dim: int
) -> Float[Tensor, ""]:
    """mse(P student, teacher), where P maps one dimension and None maps nothing."""
    wide = student.float() if widen is None else (student.float().movedim(dim, -1) @ widen.T).movedim(-1, dim)
    return nn.functional.mse_loss(wide, teacher.float())


def blocks_of(model: nn.Module, patterns: tuple[str, ...] = ()) -> list[str]:
    """Names of modules that fit a pattern; without one, the model's children, parts of a `Sequential` each."""
    if patterns:
        return [name for name, _ in model.named_modules() if any(fnmatch(name, p) for p in patterns)]
    found = []
    for name, child in model.named_children():
        parts = child.named_children() if isinstance(child, nn.Sequential | nn.ModuleList) else ()
        found += [f"{name}.{part}" for part, _ in parts] or [name]
    return found


@dataclass(frozen=True)
class InnerDistill(Recovery):
    """The dense model, as it was before pruning, teaches by the outputs of its blocks.

    Attributes:
        weight: of the mean over blocks, beside the task's loss.
        blocks: shell patterns on names of modules; by default the model's children, parts of a `Sequential` one by one.
        lr: of the projections, which learn by Adam.
    """

    weight: float = 20.0
    blocks: tuple[str, ...] = ()
    lr: float = 1e-3

    def __post_init__(self) -> None:
        if not (self.weight >= 0 and self.lr > 0):
            given, where = f"weight is {self.weight} and lr {self.lr}", "InnerDistill(weight, lr)"
            raise RecipeError(given, where=where, mend="weight is 0 or more, lr above 0; the paper takes weight=20")

    @property
    def needs_training(self) -> bool:
        return True

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """Copy the dense model as the teacher, and listen to the blocks of both."""
        names = blocks_of(model, self.blocks)
        if self.blocks and not names:
            mend = f"names such as {', '.join(blocks_of(model)[:3])}"
            raise RecipeError(f"{self.blocks} fits no module", where="InnerDistill(blocks=...)", mend=mend)
        return _Teaching(self, model, names, task)


class _Teaching(Healing):
    def __init__(self, recovery: InnerDistill, model: nn.Module, names: list[str], task: Task) -> None:
        self._recovery, self._task, self._names = recovery, task, names
        self._teacher = copy.deepcopy(model).eval().requires_grad_(False)
        self._bare = {n for n in names if next(model.get_submodule(n).parameters(), None) is None}
        self._seen: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        self._hooks = [
            m.get_submodule(n).register_forward_hook(recorder(seen, n, when))
            for m, seen, when in ((self._teacher, self._seen[0], always), (model, self._seen[1], while_training(model)))
            for n in names
        ]
        self._projections = Projections(recovery.lr, task.seed)

    def loss(self, loss: Tensor, outputs: Any, batch: Any) -> Tensor:
        with torch.no_grad():
            taught = self._task.call(self._teacher, batch)
        student, teacher = (getattr(o, "logits", o) for o in (outputs, taught))
        losses = [*self._of_blocks(student), nn.functional.mse_loss(student.float(), teacher.float())]
        for seen in self._seen:
            seen.clear()
        return loss + self._recovery.weight * torch.stack(losses).mean()

    def _of_blocks(self, outputs: Tensor) -> Iterator[Tensor]:
        """One loss for each block that ran in both models and whose output is not the model's own."""
        for name in self._names:
            teacher, student = (seen.get(name) for seen in self._seen)
            if teacher is None or student is None or student is outputs:
                continue
            uneven = [d for d, n in enumerate(teacher.shape) if n != student.shape[d]]
            if not uneven:
                yield block_loss(student, teacher, None, 0)
            elif len(uneven) == 1 and name not in self._bare:  # a pooling of fewer channels teaches nothing
                (d,) = uneven
                widen = self._projections.at(name, teacher.shape[d], student.shape[d], student.device)
                yield block_loss(student, teacher, widen, d)

    def after_step_(self) -> None:
        self._projections.step_()

    def finish_(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def state(self) -> dict[str, Tensor]:
        return self._projections.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._projections.restore(state)
