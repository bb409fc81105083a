"""One call of `prune`: checked, carried out, and told as a result."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from secateur.core import (
    Choice,
    Clock,
    Delta,
    Described,
    Healing,
    Keep,
    Kind,
    Plan,
    Recipe,
    RecipeError,
    Schedule,
    Space,
    SubjectError,
    Task,
    check_loaded,
    device_of,
    first_call,
    masks_of,
    remove_masks_,
    samples_for,
    to_device,
)
from secateur.core.memory import give_back
from secateur.recovery import FineTune
from secateur.runtime import channel_multiple
from secateur.schedules import OneShot

from .base import describe_dense
from .checkpoint import load, load_keep, read_manifest
from .latency import MeasuredLatency
from .measure import measure, sparsity_report
from .methods import implied_target, seeing
from .pruner import DecisionMaker, keep_of
from .refine import check_refine
from .result import Result, provenance
from .runfolder import RunFolder
from .scratch import PHASE, begun_in, scratch_of, training_of
from .tensors import tensor_hash
from .training import Device, NoPruning, Trainer, fresh_


class Job:
    """One call of `prune`, checked before anything is changed."""

    def __init__(
        self,
        subject: Any,
        recipe: Recipe,
        method: str | None,
        task: Task | None,
        example: Any | None,
        seed: int,
        batches: int,
    ) -> None:
        self.subject, self.recipe, self.method = subject, recipe, method
        self.task = task.fork(seed) if task is not None else None
        self.example, self.seed, self.batches = example, seed, batches
        self.curve: Mapping[str, Any] = {}
        self._macs: Mapping[str, int | None] | None = None

    def prepare(self, sparsity: float | None, cost: str) -> None:
        """Everything that can be wrong with the call is found here."""
        check_loaded(self.subject)
        if self.example is None and self.task is not None and isinstance(self.subject, nn.Module):
            self.example = next(iter(self.task.batches("test", shuffle=False)))
        elif self.example is None:
            self.example = own_example(self.subject)
        if cost == "latency" and getattr(self.recipe.structure, "multiple", 0) == 1:
            blocked = replace(self.recipe.structure, multiple=channel_multiple(device_of(self.subject)))  # type: ignore[type-var]
            self.recipe = replace(self.recipe, structure=blocked)
        self.recipe = seeing(self.recipe, self.subject, self.task, self.example)
        self.space: Space = self.recipe.structure.find(self.subject)
        self.target = implied_target(self.recipe, self.space, sparsity, cost)
        changes = self.recipe.structure.cuts or any(r.grows for r in self.recipe.recovery)
        self.base = describe_dense(self.subject) if changes else None
        self.schedule: Schedule = self.recipe.schedule or OneShot()
        self.finetune = next((r for r in self.recipe.recovery if isinstance(r, FineTune)), None)
        self.trains = self.finetune is not None and isinstance(self.subject, nn.Module)
        self.scratch = scratch_of(self.recipe)
        if self.scratch is not None and not isinstance(self.subject, nn.Module):
            what, where = f"a {type(self.subject).__name__} cannot be trained", type(self.scratch).__name__
            raise SubjectError(what, where=where, mend="give a model")
        lost = [type(r).__name__ for r in self.recipe.recovery if r.needs_task and self.task is None]
        if lost:
            raise RecipeError(
                f"{lost[0]} needs data, and there is no task",
                where="sc.prune",
                mend="pass task=sc.Task(train=..., test=...), or heal=0 with a recipe that has no recovery",
            )
        idle = [type(r).__name__ for r in self.recipe.recovery if r.needs_training]
        if idle and self.finetune is None and self.scratch is None:
            raise RecipeError(
                f"{idle[0]} acts on training steps, and nothing trains",
                where="Recipe(recovery=...)",
                mend="add FineTune(epochs=...) to the recovery",
            )
        for part in self.recipe.recovery:
            part.check([r for r in self.recipe.recovery if r is not part])
        if self.recipe.structure.cuts and self._brings_back():
            raise RecipeError(
                f"{type(self.schedule).__name__} brings weights back, and what is cut out is gone",
                where=f"structure {type(self.recipe.structure).__name__}",
                mend="use a schedule that only prunes: OneShot, Iterative, CubicGradual; "
                "or one that rewinds once: Rewinding(share=None)",
            )
        check_refine(self.recipe, self.subject, self.task)
        if not self.trains:
            self.schedule.check(self._still_clock(), self.target)

    def _brings_back(self) -> bool:
        """Whether units return that a cut has removed. What survives can be rewound after one cut, not after more."""
        if self.schedule.regrows or not self.schedule.starts_dense:
            return self.schedule.regrows
        legs = self.schedule.legs(self.target)
        moves = self.schedule.moves(Clock(1, 1, legs, 1), self.target)
        return legs > 2 or any(m.kind is not Kind.PRUNE or m.rewind == "fresh" for m in moves)

    def _still_clock(self) -> Clock:
        """A clock of no steps: everything that the schedule does happens at once."""
        return Clock(0, 0, self.schedule.legs(self.target))

    def config(self) -> dict[str, Any]:
        """What makes this run this run, as plain data."""
        facts: dict[str, Any] = {
            "method": self.method,
            "recipe": self.recipe.to_json(),
            "sparsity": self.target.sparsity,
            "cost": self.target.cost,
            "seed": self.seed,
            "batches": self.batches,
        }
        if isinstance(self.subject, nn.Module):
            facts["weights"] = tensor_hash(self.subject.state_dict())[:16]
        if self.task is not None:
            facts["task"] = self.task.name
            facts["training"] = repr(self.task.training)
            facts["batch_size"], facts["epoch_steps"] = self.task.batch_size, self.task.epoch_steps()
        return facts

    def run_(self, device: Device, folder: RunFolder | None) -> Result:
        """Prune and heal, in place."""
        self.before = self._measure(self.subject)
        maker = DecisionMaker(
            self.subject,
            self.recipe,
            self.target,
            task=self.task,
            example=self.example,
            batches=self.batches,
            seed=self.seed,
            latency=self._latency(),
            hold=any(not r.rebuilds for r in self.recipe.recovery) or self.recipe.refine is not None,
            run=None if self.trains or self.scratch is not None else folder,  # a trainer has a state of its own
        )
        try:
            facts = self._act_(maker, device, folder)
        finally:
            maker.close()
        return self._result(maker, self.before, facts)

    def _act_(self, maker: DecisionMaker, device: Device, folder: RunFolder | None) -> dict[str, Any]:
        """All moves, and all healing; gives what is worth recording of it."""
        facts: dict[str, Any] = {"sparsity": self.target.sparsity, "seed": self.seed, "train_steps": 0}
        healings: list[Healing] = []
        if self.task is not None and isinstance(self.subject, nn.Module):
            healings = [r.begin(self.subject, self.task) for r in self.recipe.recovery]
        begun = begun_in(folder) if self.scratch is not None else None
        trainer: Trainer | None = None
        if self.finetune is not None and self.trains:
            facts["training"] = vars(self.finetune.training(self._goal))
            if begun is None:
                trainer = self._trainer(maker, device, folder, healings)
                trainer.fit_()
        elif begun is None:
            self._all_moves_(maker, device)
        if self.scratch is not None:
            trainer = self._from_scratch_(maker, device, folder, () if self.trains else healings, trainer, begun)
            facts["scratch"] = vars(trainer.training)
        if trainer is not None:
            facts["train_steps"] = trainer.done
            self.curve = trainer.curve.to_json()
        for healing in () if self.scratch is not None and self.trains else healings:
            healing.finish_()
            facts |= healing.facts()
            maker.plan += healing.plan()
        return facts

    @property
    def _goal(self) -> Task:
        assert self.task is not None
        return self.task

    def _trainer(
        self, maker: DecisionMaker, device: Device, folder: RunFolder | None, healings: Sequence[Healing]
    ) -> Trainer:
        assert self.finetune is not None
        return Trainer(
            self.subject,
            self._goal,
            self.finetune.training(self._goal),
            self.schedule,
            self.target,
            maker,
            healings,
            rewind_lr=self.finetune.rewind_lr,
            seed=self.seed,
            device=device,
            run=folder,
            title=self.method or "recipe",
        )

    def _from_scratch_(
        self,
        maker: DecisionMaker,
        device: Device,
        folder: RunFolder | None,
        healings: Sequence[Healing],
        earlier: Trainer | None,
        begun: Mapping[str, Any] | None,
    ) -> Trainer:
        """Train what is left from new weights; `begun` is the state of a run that was killed while it did."""
        assert self.scratch is not None
        if begun is None:
            training = training_of(self.scratch, self._goal, self.before, self.subject, self._example_inputs())
            assert maker.keep is not None
            fresh_(self.subject, self._goal, self.seed, cut=(self.space, maker.keep))
        else:
            training = replace(self._goal.training, epochs=begun["epochs"])
        title = f"{self.method or 'recipe'}, from scratch"
        trainer = Trainer(
            self.subject,
            self._goal,
            training,
            NoPruning(),
            self.target,
            maker,
            healings,
            seed=self.seed,
            device=device,
            run=folder,
            title=title,
            phase=PHASE,
        )
        if earlier is not None:
            trainer.done, trainer.curve = earlier.done, earlier.curve
        trainer.fit_()
        return trainer

    def _all_moves_(self, maker: DecisionMaker, device: Device) -> None:
        if isinstance(self.subject, nn.Module) and device.name is not None:
            self.subject.to(device.name)
        for move in self.schedule.moves(self._still_clock(), self.target):
            maker.act_(move, 0)

    def _latency(self) -> MeasuredLatency | None:
        """What measures latency, where that is the target."""
        if self.target.cost != "latency":
            return None
        call = first_call if self.task is None else self.task.call
        return MeasuredLatency(self.subject, self.recipe.structure, samples_for(self.subject, self.example), call)

    def _measure(self, subject: Any) -> dict[str, Any]:
        """Costs and metrics; multiplications are counted once, unless what is pruned or healed changes them."""
        if not isinstance(subject, nn.Module):
            return {}
        found, rows = measure(subject, self.task, self._example_inputs(), self._macs)
        if self.base is None:
            self._macs = {row.name: row.macs for row in rows}
        return found

    def _example_inputs(self) -> Any:
        if self.example is None or not isinstance(self.subject, nn.Module):
            return None
        return to_device(self.example, next(self.subject.parameters()).device)

    def _result(self, maker: DecisionMaker, before: dict[str, Any], facts: dict[str, Any]) -> Result:
        subject = maker.subject
        masks: Mapping[str, Tensor] = {}
        if isinstance(subject, nn.Module):
            masks = {n: m.cpu().clone() for n, m in masks_of(subject).items()} or maker.masks
            remove_masks_(subject)
        if not maker.history:
            raise RecipeError(
                "the schedule ended and nothing was pruned",
                where=f"{type(self.schedule).__name__}",
                mend="give it a task and a recovery FineTune(epochs=...), or use OneShot",
            )
        give_back()
        after = self._measure(subject)
        return Result(
            subject=subject,
            plan=maker.plan,
            keep=maker.keep,
            masks=masks,
            before=before,
            after=after,
            sparsity=sparsity_report(after, maker.kept, maker.sizes, self.space.skipped),
            history=maker.history,
            provenance=provenance(self.recipe, self.method, **facts),
            curve=self.curve,
            example=_first_tensor(self.example),
            base=self.base,
        )

    def finished(self, folder: RunFolder) -> Result:
        """The result of a run folder whose run came to its end, on the given subject."""
        manifest = read_manifest(folder.result)
        if manifest["subject"] != "module":
            keep = load_keep(folder.result)
            subset, _ = self.recipe.structure.apply_(self.subject, Choice(keep))
            return self._stored(manifest, subset, keep, {})
        loaded = load(folder.result, factory=self._architecture, masks=True)
        if self.recipe.structure.cuts:
            return self._stored(manifest, loaded, load_keep(folder.result), {})
        masks = {n: m.clone() for n, m in masks_of(loaded).items()}
        remove_masks_(loaded)
        keep = keep_of(self.recipe.structure.find(self.subject), masks)
        return self._stored(manifest, loaded, keep, masks)

    def _architecture(self) -> nn.Module:
        """What a stored result is loaded into: the subject itself, or a copy of the tuned half of a pair."""
        subject = copy.deepcopy(self.subject.tuned) if isinstance(self.subject, Delta) else self.subject
        assert isinstance(subject, nn.Module)
        return subject

    def _stored(self, manifest: Mapping[str, Any], subject: Any, keep: Keep, masks: Mapping[str, Tensor]) -> Result:
        return Result(
            subject=subject,
            plan=Plan.from_json(manifest["plan"]),
            keep=keep,
            masks=masks,
            before=manifest["before"],
            after=manifest["after"],
            sparsity=manifest["sparsity"],
            history=manifest["history"],
            provenance=manifest["provenance"],
            curve=manifest.get("curve", {}),
            example=_first_tensor(self.example),
            base=self.base,
        )


def own_example(subject: object) -> Any:
    """The inputs that a model knows of itself, as one that was read from a file does; None for others."""
    return subject.example_inputs() if isinstance(subject, Described) else None


def _first_tensor(example: Any) -> Tensor | None:
    """The inputs of an example, where they are one tensor."""
    if isinstance(example, Tensor):
        return example
    if isinstance(example, tuple | list) and example and isinstance(example[0], Tensor):
        return example[0]
    return None
