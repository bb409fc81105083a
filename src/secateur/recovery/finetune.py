"""Fine-tuning: train the survivors, each leg with a learning-rate schedule of its own (learning-rate rewinding)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import nn

from secateur.core import Healing, RecipeError, Recovery, SubjectError, Task, Training, nearest

_OPTIMIZERS = ("adam", "adamw", "sgd")
_SCHEDULES = ("constant", "cosine", "linear", "step")


@dataclass(frozen=True)
class FineTune(Recovery):
    """Train on, with masks in force; what is left open is as the task trains from scratch.

    Attributes:
        epochs: length of one leg; iterative schedules train one leg after each pruning.
        rewind_lr: whether every leg starts the learning-rate schedule anew (Renda et al., "Comparing Rewinding and
            Fine-tuning", ICLR 2020); else the legs share one schedule.
        optimizer, lr, lr_schedule, momentum, weight_decay, warmup, clip: as in `Training`.
        epochs_share, lr_share: of the task's own epochs and learning rate, where none are given.
    """

    epochs: float | None = None
    rewind_lr: bool = True
    optimizer: Literal["adam", "adamw", "sgd"] | None = None
    lr: float | None = None
    lr_schedule: Literal["constant", "cosine", "linear", "step"] | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    warmup: float | None = None
    clip: float | None = None
    epochs_share: float = 1.0
    lr_share: float = 1.0

    def __post_init__(self) -> None:
        if not (self.epochs_share > 0 and self.lr_share > 0):
            what, where = f"shares are {self.epochs_share} and {self.lr_share}", "FineTune(epochs_share, lr_share)"
            raise RecipeError(what, where=where, mend="above 0; 0.25 and 0.1 are a quarter as long, at a tenth")
        if self.epochs is not None and not self.epochs >= 0:
            raise RecipeError(f"epochs is {self.epochs}", where="FineTune(epochs=...)", mend="0 or more")

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """The engine trains; there is nothing to hook."""
        return Healing()

    def training(self, task: Task) -> Training:
        """The task's own training with this recovery's wishes."""
        names = {f.name for f in fields(Training)}
        wishes = {f.name: getattr(self, f.name) for f in fields(self) if f.name in names}
        own = task.training
        shares = {"epochs": own.epochs * self.epochs_share, "lr": own.lr * self.lr_share}
        return replace(own, **{**shares, **{k: v for k, v in wishes.items() if v is not None}})


def lr_at(training: Training, position: int, steps: int) -> float:
    """The learning rate of step `position` (from 0) in a leg of `steps`. A pure function, so it rewinds for free."""
    rise = round(training.warmup * steps)
    if position < rise:
        return training.lr * (position + 1) / rise
    part = (position - rise) / max(steps - rise, 1)
    match training.lr_schedule:
        case "constant":
            return training.lr
        case "cosine":
            return training.lr * 0.5 * (1 + math.cos(math.pi * part))
        case "linear":
            return training.lr * (1 - part)
        case "step":
            return training.lr * (0.1 ** ((part >= 0.5) + (part >= 0.75)))
    raise RecipeError(
        f"there is no learning-rate schedule {training.lr_schedule!r}",
        where="Training(lr_schedule=...)",
        mend=nearest(training.lr_schedule, _SCHEDULES),
    )


def optimizer_for(model: nn.Module, training: Training, more: Iterable[nn.Parameter] = ()) -> torch.optim.Optimizer:
    """A new optimizer over the parameters that want gradients, and over more.

    Raises:
        SubjectError: there is none.
    """
    parameters = [*(p for p in model.parameters() if p.requires_grad), *more]
    if not parameters:
        raise SubjectError(
            "all parameters are frozen, so there is nothing to train",
            where=f"fine-tuning of {type(model).__name__}",
            mend="call requires_grad_() on what is to be trained, or prune without training: recovery='none'",
        )
    lr, decay = training.lr, training.weight_decay
    match training.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr=lr, momentum=training.momentum, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(parameters, lr=lr, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=lr, weight_decay=decay)
    raise RecipeError(
        f"there is no optimizer {training.optimizer!r}",
        where="Training(optimizer=...)",
        mend=nearest(training.optimizer, _OPTIMIZERS),
    )
