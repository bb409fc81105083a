r"""Spatial attention distillation: the dense model teaches where to look (after Zagoruyko & Komodakis, ICLR 2017).

    A = mean_c |F_c|^2, flattened, over ||A||_2;     loss = loss_task + beta sum_s mean ||A_teacher - A_student||^2

A map has no channels, so nothing stands between layers of unlike width. For unit vectors that are not negative each
term lies in [0, 2], whatever the sizes. beta is such that the term begins as a given share of the task's loss.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from secateur.core import (
    Healing,
    RecipeError,
    Recovery,
    SubjectError,
    Task,
    device_of,
    samples_for,
    to_device,
)

from .inner_distill import blocks_of
from .listening import always, recorder, while_training


def attention(features: Float[Tensor, "batch channels *places"]) -> Float[Tensor, "batch flat"]:
    """Where a feature map is large: unit vectors over places; zeros where the map is zero."""
    energy = features.float().pow(2).mean(1).flatten(1)
    return nn.functional.normalize(energy, dim=1)


def attention_loss(
    student: Float[Tensor, "batch kept *places"], teacher: Float[Tensor, "batch dense *places"]
) -> Float[Tensor, ""]:
    """|| A_teacher - A_student ||^2, the mean over the batch: in [0, 2]."""
    return (attention(teacher) - attention(student)).pow(2).sum(1).mean()


@dataclass(frozen=True)
class SpatialAttention(Recovery):
    """The dense model, as it was before pruning, teaches by where its feature maps are large.

    Attributes:
        share: of the task's loss, that the term begins with; beta is found at the first step where the two differ.
        scales: shell patterns on names of modules whose outputs are compared; by default the last block of each
            size of map, where blocks are the model's children, parts of a `Sequential` one by one.
        after: epochs before it begins, such as those of a sparse training.
    """

    share: float = 0.1
    scales: tuple[str, ...] = ()
    after: float = 0.0

    def __post_init__(self) -> None:
        if not (self.share >= 0 and self.after >= 0):
            given, where = f"share is {self.share} and after {self.after}", "SpatialAttention(share, after)"
            raise RecipeError(given, where=where, mend="neither is negative; share=0.1 is a tenth of the task's loss")

    @property
    def needs_training(self) -> bool:
        return True

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """Copy the dense model as the teacher, run it once to see its maps, and listen to both."""
        teacher = copy.deepcopy(model).eval().requires_grad_(False)
        names = blocks_of(model, self.scales)
        sample = to_device(samples_for(model, next(iter(task.batches("test", shuffle=False)))), device_of(model))
        maps = _maps(teacher, names, sample, task)
        chosen = list(maps) if self.scales else _last_of_each_size(maps)
        if not chosen:
            raise RecipeError(
                f"no output of {', '.join(names[:3]) or 'any module'} has places to look at",
                where=f"SpatialAttention(scales={self.scales})",
                mend="name modules that give feature maps, [batch, channels, height, width]",
            )
        return _Looking(self, model, teacher, chosen, task)


def _maps(teacher: nn.Module, names: list[str], sample: Any, task: Task) -> dict[str, tuple[int, ...]]:
    """The sizes of the feature maps, larger than one place, that modules give, in the order of the pass."""
    seen: dict[str, Tensor] = {}
    hooks = [teacher.get_submodule(n).register_forward_hook(recorder(seen, n, always)) for n in names]
    with torch.no_grad():
        task.call(teacher, sample)
    for hook in hooks:
        hook.remove()
    sizes = {name: tuple(value.shape[2:]) for name, value in seen.items() if value.dim() > 2}
    return {name: size for name, size in sizes.items() if max(size) > 1}


def _last_of_each_size(maps: Mapping[str, tuple[int, ...]]) -> list[str]:
    return list({size: name for name, size in maps.items()}.values())


class _Looking(Healing):
    def __init__(
        self, recovery: SpatialAttention, model: nn.Module, teacher: nn.Module, names: list[str], task: Task
    ) -> None:
        self._share, self._teacher, self._names, self._task = recovery.share, teacher, names, task
        self._after, self._step, self._beta = round(recovery.after * task.epoch_steps()), 0, 0.0
        self._seen: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        self._hooks = [
            m.get_submodule(n).register_forward_hook(recorder(seen, n, when))
            for m, seen, when in ((teacher, self._seen[0], always), (model, self._seen[1], while_training(model)))
            for n in names
        ]

    def loss(self, loss: Tensor, outputs: Any, batch: Any) -> Tensor:
        if self._share and self._step >= self._after:
            with torch.no_grad():
                self._task.call(self._teacher.to(loss.device), batch)
            apart = torch.stack([self._of(name) for name in self._names]).sum()
            if not self._beta and float(apart.detach()) > 0:
                self._beta = self._share * float(loss.detach()) / float(apart.detach())
            loss = loss + self._beta * apart
        for seen in self._seen:
            seen.clear()
        return loss

    def _of(self, name: str) -> Tensor:
        teacher, student = (seen[name] for seen in self._seen)
        if teacher.shape[2:] != student.shape[2:]:
            raise SubjectError(
                f"its map is {tuple(student.shape[2:])}, and the teacher's {tuple(teacher.shape[2:])}",
                where=f"SpatialAttention, module {name!r}",
                mend="compare modules whose strides stay what they are: scales=[...]",
            )
        return attention_loss(student, teacher)

    def after_step_(self) -> None:
        self._step += 1

    def finish_(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def state(self) -> dict[str, Tensor]:
        return {"step": torch.tensor(self._step), "beta": torch.tensor(self._beta, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._step, self._beta = int(state["step"]), float(state["beta"])
