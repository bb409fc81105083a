"""The training loop: legs of steps, moves of the schedule, hooks of recoveries, a state that resumes bit for bit."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur.core import (
    MASK_SUFFIX,
    CheckpointError,
    Clock,
    Healing,
    Keep,
    Move,
    RecipeError,
    Rewind,
    Schedule,
    Space,
    SubjectError,
    Target,
    Task,
    Training,
    check_loss,
    masks_of,
    owner_of,
    to_device,
)
from secateur.core.progress import report
from secateur.recovery import cut_alike, lr_at, optimizer_for, reset_

from .curve import Curve
from .pruner import DecisionMaker
from .rng import rng_state, seeded, set_rng_state
from .runfolder import RunFolder


@dataclass
class Device:
    """Where and how training runs; `accelerate` spreads it.

    Attributes:
        name: "cpu", "cuda", or None for the best there is.
        mixed_precision: "no", "bf16" or "fp16".
    """

    name: str | None = None
    mixed_precision: str = "no"

    def accelerator(self) -> Any:
        """A fresh accelerator."""
        from accelerate import Accelerator

        return Accelerator(cpu=self.name == "cpu", mixed_precision=self.mixed_precision)


def is_main_process() -> bool:
    """Whether this process writes to disk: the first of several that train together, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


@dataclass
class Trainer:
    """Runs the legs of one recipe on one module.

    A leg is `leg_steps` optimizer steps under one learning-rate schedule. After any leg the schedule may rewind.
    `position` is the place in the leg, `leg` its number; everything that decides what happens next is in `state`.
    `phase` tells the trainers of a run of several apart, which share its folder one after the other.
    """

    model: nn.Module
    task: Task
    training: Training
    schedule: Schedule
    target: Target
    maker: DecisionMaker | None = None
    healings: Sequence[Healing] = ()
    rewind_lr: bool = True
    seed: int = 0
    device: Device = field(default_factory=Device)
    run: RunFolder | None = None
    title: str = "training"
    phase: str = ""

    def __post_init__(self) -> None:
        self.epoch_steps = self.task.epoch_steps()
        self.leg_steps = round(self.training.epochs * self.epoch_steps)
        self.legs = self.schedule.legs(self.target)
        self.leg = self.position = self.done = 0
        self.curve = Curve()
        self.schedule.check(self.clock, self.target)
        self._snapshots: dict[int, dict[str, Tensor]] = {}
        self._dense: nn.Module | None = None

    @property
    def clock(self) -> Clock:
        """The schedule's clock."""
        return Clock(self.leg * self.leg_steps + self.position, self.leg_steps, self.legs, self.epoch_steps)

    def fit_(self) -> None:
        """Train through all legs, in place; goes on from the run folder's state if there is one."""
        self.accelerator = self.device.accelerator()
        self.model.to(self.accelerator.device)
        cuts = self.maker is not None and self.maker.recipe.structure.cuts
        self._dense = copy.deepcopy(self.model) if cuts and self._wanted_snapshots() else None
        self._wrapped = self.accelerator.prepare_model(self.model)
        self._new_optimizer()
        with seeded(self.seed):
            state = self.run.read() if self.run is not None else None
            if state is not None and state.get("phase", "") == self.phase:
                self._restore_checked(state)
            else:
                self._snapshot_if_wanted()
                self._act()
            self._fit_rest()

    def _fit_rest(self) -> None:
        total = self.clock.total
        self.model.train()
        while self.clock.step < total:
            for batch in self._epoch_batches():
                self._step(to_device(batch, self.accelerator.device))
                if self._advance():
                    break
        self.model.eval()

    def _epoch_batches(self) -> Any:
        """What is left of the current epoch; its order depends on the place in training alone."""
        place = self.position if self._repeats else self.clock.step
        epoch, start = divmod(place, self.epoch_steps)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        for batch in self.task.batches("train", epoch=epoch, start=start):
            yield batch if world == 1 else _part(batch, rank, world)

    @property
    def _repeats(self) -> bool:
        """Whether each leg sees the same order of data: a rewound leg must, or it is another experiment."""
        return self.schedule.starts_dense

    def _step(self, batch: Any) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._lr()
        with self.accelerator.autocast():
            outputs = self.task.call(self._wrapped, batch)
            loss = self.task.loss(outputs, batch)
            for healing in self.healings:
                loss = healing.loss(loss, outputs, batch)
        if self.accelerator.device.type == "cpu" or self.clock.step % 50 == 0:  # reading a GPU's loss makes it wait
            check_loss(loss.detach(), f"step {self.clock.step} of {self.title}")
            self.curve.add(self.done, float(loss.detach()))
        self.accelerator.backward(loss)
        if self.training.clip is not None:
            trained = [*self._wrapped.parameters(), *self._own_parameters()]
            self.accelerator.clip_grad_norm_(trained, self.training.clip)  # unscales as well
        elif self.healings:
            self.accelerator.unscale_gradients(self.optimizer)  # fp16: hooks see gradients as they are
        for healing in self.healings:
            healing.before_step_()
        self.optimizer.step()
        self.optimizer.zero_grad()
        for healing in self.healings:
            healing.after_step_()
        self.done += 1

    def _lr(self) -> float:
        if self.rewind_lr:
            return lr_at(self.training, self.position, self.leg_steps)
        return lr_at(self.training, self.clock.step, self.clock.total)

    def _advance(self) -> bool:
        """One step on; True where the epoch must be begun anew."""
        self.position += 1
        report(self.title, self.clock.step, self.clock.total)
        self._snapshot_if_wanted()
        rewound = self._act()
        ended = self.position >= self.leg_steps
        if ended:
            self.leg, self.position = self.leg + 1, 0
            if self.rewind_lr and self.leg < self.legs:
                self._new_optimizer()
        if self.run is not None and self.run.due() and is_main_process():
            self.run.write(self.state())
        return rewound or ended

    def _act(self) -> bool:
        """The moves of this step; True if one of them rewound."""
        rewind: Rewind | None = None
        for move in self.schedule.moves(self.clock, self.target):
            self._move(move)
            rewind = move.rewind if move.rewind is not None else rewind
        if rewind is None:
            return False
        self._rewind(rewind)
        return True

    def _move(self, move: Move) -> None:
        assert self.maker is not None
        for healing in self.healings:
            healing.before_move_()
        self.maker.act_(move, self.clock.step)
        changed = [healing.after_move_() for healing in self.healings]
        if any(changed):
            self._check_alone()
            self._new_optimizer()
        self.maker.enforce_(self.optimizer)
        self._take_in_new()

    def _take_in_new(self) -> None:
        """Biases that a repair made are trained from now on, in the order in which a resumed run has them."""
        wanted = [p for p in self.model.parameters() if p.requires_grad]
        (group,) = self.optimizer.param_groups
        if len(wanted) > len(group["params"]):
            group["params"] = wanted

    def _rewind(self, to: Rewind) -> None:
        """Weights and buffers of then (or of a fresh initialisation) under the masks of now; a new optimizer."""
        self.leg, self.position = self.leg + 1, 0 if to == "fresh" else to
        if to == "fresh":
            fresh_(self.model, self.task, self.seed)
        elif self._dense is not None:
            self._rewind_cut(self._dense, self._snapshot(to))
        else:
            load_dense_(self.model, self._snapshot(to))
        self._new_optimizer()

    def _rewind_cut(self, dense: nn.Module, tensors: dict[str, Tensor]) -> None:
        """What survived the cut, with the values that it had in the snapshot of the dense subject."""
        assert self.maker is not None
        twin = copy.deepcopy(dense)
        twin.load_state_dict(tensors)
        self.model.load_state_dict(self.maker.cut_(twin).state_dict())

    def _new_optimizer(self) -> None:
        new = optimizer_for(self.model, self.training, self._own_parameters())
        self.optimizer = self.accelerator.prepare_optimizer(new)

    def _own_parameters(self) -> list[nn.Parameter]:
        return [p for healing in self.healings for p in healing.parameters()]

    def _check_alone(self) -> None:
        """Several processes agreed at the start on what they train."""
        if self.accelerator.num_processes > 1:
            raise RecipeError(
                "a recovery changes which tensors are trained, and several processes train together",
                where=", ".join(type(healing).__name__ for healing in self.healings),
                mend="train in one process",
            )

    def _snapshot_if_wanted(self) -> None:
        """Remember the subject at the step that the schedule will rewind to."""
        if self.leg or not self._repeats:
            return
        if self.position in self._wanted_snapshots():
            tensors = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            self._snapshots[self.position] = tensors
            if self.run is not None and is_main_process():
                self.run.write_snapshot(self.position, tensors)

    def _wanted_snapshots(self) -> set[int]:
        ends = (Clock(leg * self.leg_steps, self.leg_steps, self.legs, self.epoch_steps) for leg in range(1, self.legs))
        moves = (m for clock in ends for m in self.schedule.moves(clock, self.target))
        return {m.rewind for m in moves if isinstance(m.rewind, int)}

    def _snapshot(self, step: int) -> dict[str, Tensor]:
        if step not in self._snapshots:
            found = self.run.read_snapshot(step) if self.run is not None else None
            if found is None:
                assert self.run is not None
                raise CheckpointError(
                    f"the snapshot of step {step} is gone",
                    where=str(self.run.path),
                    mend="delete the run folder to start again",
                )
            self._snapshots[step] = found
        return self._snapshots[step]

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "healings": [h.state() for h in self.healings],
            "decisions": None if self.maker is None else self.maker.state(),
            "curve": self.curve.state(),
            "leg": self.leg,
            "position": self.position,
            "done": self.done,
            "phase": self.phase,
            "epochs": self.training.epochs,
            "rng": rng_state(),
        }

    def _restore_checked(self, state: dict[str, Any]) -> None:
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError) as error:
            assert self.run is not None
            raise CheckpointError(
                f"the state is not whole: {error!r}",
                where=str(self.run.path / "state.safetensors"),
                mend="delete it to start that run again",
            ) from error

    def _restore(self, state: dict[str, Any]) -> None:
        if self.maker is not None:
            self.maker.restore_(state["decisions"])
        self.model.load_state_dict(state["model"])
        for healing, saved in zip(self.healings, state["healings"], strict=True):
            healing.restore(saved)
        self._new_optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        self.leg, self.position, self.done = state["leg"], state["position"], state["done"]
        self.curve.restore(state["curve"])
        set_rng_state(state["rng"])


class NoPruning(Schedule):
    """Plain training: one leg, and no move."""

    def moves(self, clock: Clock, target: Target) -> tuple[Move, ...]:
        return ()


def train_(
    model: nn.Module,
    task: Task,
    *,
    seed: int,
    device: Device,
    title: str = "training",
    run: RunFolder | None = None,
) -> Trainer:
    """Train a model as its task says, in place; the trainer knows the steps done and the curve."""
    trainer = Trainer(
        model, task, task.training, NoPruning(), Target(0.0), seed=seed, device=device, title=title, run=run
    )
    trainer.fit_()
    return trainer


def _part(batch: Any, rank: int, world: int) -> Any:
    """This process's share of a batch: every `world`-th sample."""
    if isinstance(batch, Tensor):
        return batch[rank::world]
    if isinstance(batch, dict):
        return {k: _part(v, rank, world) for k, v in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(_part(v, rank, world) for v in batch)
    return batch


def load_dense_(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load weights and buffers of an earlier time, in place, under the masks of now."""
    masks = {k: v for k, v in model.state_dict().items() if k.endswith(MASK_SUFFIX)}
    model.load_state_dict({k: v for k, v in tensors.items() if not k.endswith(MASK_SUFFIX)} | masks)
    _mask_again_(model)


def fresh_(model: nn.Module, task: Task, seed: int, cut: tuple[Space, Keep] | None = None) -> None:
    """A new initialisation of the same distribution and another seed, in place, under the masks of now.

    Drawn from the task's model factory where that makes models of these sizes, else by every module's own
    `reset_parameters` at the sizes that it has.

    Args:
        cut: of a cut model the space of the dense one, and what stays: where the factory's values lie that no module
            resets.

    Raises:
        SubjectError: a parameter belongs to a module that cannot reset itself, and the task has no factory for it.
    """
    with seeded(seed + 1_000_003):
        made = {} if task.model is None else dict(task.model().state_dict())
        mine = {k: v.shape for k, v in model.state_dict().items() if not k.endswith(MASK_SUFFIX)}
        if {k: v.shape for k, v in made.items()} != mine:
            made = _reset(model, made if cut is None else cut_alike(made, *cut))
    device = next(model.parameters()).device
    load_dense_(model, {k: v.to(device) for k, v in made.items()})


def _reset(model: nn.Module, otherwise: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the model's modules reset themselves to, and the other values where they do not."""
    twin = copy.deepcopy(model)
    left = reset_(twin)
    state = dict(twin.state_dict())
    for name in left:
        if name not in otherwise or otherwise[name].shape != state[name].shape:
            raise SubjectError(
                f"{type(owner_of(model, name)[0]).__name__} has parameters and no reset_parameters()",
                where=f"parameter {name!r} of shape {tuple(state[name].shape)}",
                mend="give the task a factory: sc.Task(..., model=lambda: MyModel()), or the class reset_parameters()",
            )
        state[name] = otherwise[name].to(state[name])
    return state


@torch.no_grad()
def _mask_again_(model: nn.Module) -> None:
    for name, mask in masks_of(model).items():
        module, leaf = owner_of(model, name)
        getattr(module, leaf).masked_fill_(~mask, 0)
