"""Pruner: a recipe at work on one subject, in the engine's training loop or in the user's own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from secateur.calibration import collect
from secateur.core import (
    AddBias,
    Choice,
    Clock,
    Keep,
    MaskKeeper,
    Move,
    Notes,
    Plan,
    Recipe,
    RecipeError,
    Space,
    Statistic,
    Stats,
    Structure,
    Target,
    Task,
    check_loaded,
    masks_of,
    remove_masks_,
)
from secateur.core.strands import counts
from secateur.graph import follow_
from secateur.recovery import RecalibrateBN
from secateur.schedules import OneShot

from .blockwise import layout_for, prune_blocks_, sectioned
from .decide import decided
from .fitting import Wanted, total_of
from .journal import Journal, MoveNotes
from .latency import MeasuredLatency
from .methods import as_recipe, implied_target, one_target, seeing
from .refine import check_refine, originals, refined
from .runfolder import RunFolder
from .trial import MeasuredTrial, unproven


class Pruner:
    """Drives a recipe: asks the schedule at each step, decides, applies, and keeps the masks in force.

    In your own loop::

        pruner = sc.Pruner(model, "gmp", total_steps=1000, sparsity=0.9)
        for batch in loader:
            loss(model(batch)).backward()
            optimizer.step()
            optimizer.zero_grad()
            pruner.step()
        pruner.finalize()

    Whatever optimizer steps the model, the masks hold right after the step; `step` advances the schedule. Recipes
    that rewind need the engine's own loop: use `sc.prune`.

    Args:
        model: the subject, pruned in place.
        recipe: a recipe, or a method's id.
        total_steps: optimizer steps of the whole training.
        sparsity: share removed at the end; only N:M structures and Fixed budgets do without.
        macs, params, bytes: instead of a sparsity, the share of the model's cost that remains, for structures that cut.
        epoch_steps: optimizer steps in an epoch, for schedules written in epochs.
        task: where scores that need data read it; not needed for magnitude.
        example: a batch or inputs, for structures that cut; by default the task's first test batch. After a cut your
            optimizer goes on with the smaller parameters from its next step on, its moments cut alike.
        batches: how many batches such scores read.
        seed: of every random choice.

    Raises:
        RecipeError: the recipe does not fit the training.
    """

    def __init__(
        self,
        model: Any,
        recipe: Recipe | str,
        *,
        total_steps: int,
        sparsity: float | None = None,
        macs: float | None = None,
        params: float | None = None,
        bytes: float | None = None,
        epoch_steps: int | None = None,
        task: Task | None = None,
        example: Any | None = None,
        batches: int = 16,
        seed: int = 0,
    ) -> None:
        self.recipe = as_recipe(recipe)
        check_loaded(model)
        if example is None and task is not None and self.recipe.structure.cuts:
            example = next(iter(task.batches("test", shuffle=False)))
        self.recipe = seeing(self.recipe, model, task, example)
        self.space = self.recipe.structure.find(model)
        asked = one_target(sparsity=sparsity, macs=macs, params=params, bytes=bytes)
        self.target = implied_target(self.recipe, self.space, *asked)
        legs = self.schedule.legs(self.target)
        self._core = DecisionMaker(
            model, self.recipe, self.target, task=task, example=example, batches=batches, seed=seed
        )
        self.clock = Clock(0, total_steps // legs, legs, epoch_steps)
        self.schedule.check(self.clock, self.target)
        self._act()

    @property
    def schedule(self) -> Any:
        """The recipe's schedule; one-shot where it names none."""
        return self.recipe.schedule or OneShot()

    @property
    def keep(self) -> Keep | None:
        """What stays at present; None before the first pruning."""
        return self._core.keep

    @property
    def plan(self) -> Plan:
        """What was done so far."""
        return self._core.plan

    def step(self) -> None:
        """Call it after each optimizer step."""
        self.clock = replace(self.clock, step=self.clock.step + 1)
        self._act()

    def _act(self) -> None:
        for move in self.schedule.moves(self.clock, self.target):
            if move.rewind is not None:
                raise RecipeError(
                    "this recipe rewinds the weights, which a loop of your own cannot follow",
                    where="Pruner",
                    mend="use sc.prune(model, recipe, task=...), which owns the loop",
                )
            self._core.act_(move, self.clock.step)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed loop needs beside the model's own state dict, which holds the masks."""
        return {"step": self.clock.step, **self._core.state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`; call it before the model's own `load_state_dict`, which brings the masks back."""
        self.clock = replace(self.clock, step=state["step"])
        self._core.restore_(state)

    def finalize(self) -> Keep:
        """Stop keeping masks, fold them in, and give what stays.

        Raises:
            RecipeError: the schedule has not come to its end, so the target sparsity was not reached.
        """
        asked = [h["target"] for h in self._core.history if h["target"] is not None]
        if self.keep is None or not asked or asked[-1] < self.target.sparsity:
            raise RecipeError(
                f"the sparsity is {self._core.sparsity:.4f}, not the {self.target.sparsity:.4f} that was asked for",
                where=f"Pruner.finalize at step {self.clock.step} of {self.clock.total}",
                mend="train on to the schedule's end, or end it earlier (end=...)",
            )
        self._core.close()
        if isinstance(self._core.subject, nn.Module):
            remove_masks_(self._core.subject)
        return self.keep


class DecisionMaker:
    """The state of one subject under a recipe: its keep, its plan, its masks; acts out moves."""

    def __init__(
        self,
        subject: Any,
        recipe: Recipe,
        target: Target,
        *,
        task: Task | None,
        example: Any,
        batches: int,
        seed: int,
        latency: MeasuredLatency | None = None,
        hold: bool = True,
        run: RunFolder | None = None,
    ) -> None:
        self._latency, self._hold, self._run = latency, hold, run
        self.masks: Mapping[str, Tensor] = {}
        self.subject = self.original = subject
        self.recipe, self.target = recipe, target
        self.plan = Plan()
        self.keep: Keep | None = None
        self.history: list[dict[str, Any]] = []
        self._task, self._example, self._batches, self._seed = task, example, batches, seed
        self._keeper: MaskKeeper | None = None
        self.kept: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self._dense_cost: float | None = None
        self._cuts: list[Keep] = []
        check_refine(recipe, subject, task)
        if isinstance(subject, nn.Module) and not recipe.structure.cuts:
            self._keeper = MaskKeeper(subject, mask_gradients=recipe.schedule is None or not recipe.schedule.regrows)
            self.keep = existing_keep(subject, recipe.structure.find(subject))

    @property
    def sparsity(self) -> float:
        """Share of all units, of every group decided on so far, that is gone."""
        return 1 - sum(self.kept.values()) / max(sum(self.sizes.values()), 1)

    def act_(self, move: Move, step: int) -> None:
        """Decide and apply, in place where the subject allows it."""
        structure = self.recipe.structure
        needs = structure.rewrite_needs
        evidence = self._collect(structure.find(self.original), needs) if needs else {}
        self.plan += structure.rewrite_(self.original, Stats(evidence, seed=self._seed, step=step))
        space = structure.find(self.original)
        if self._latency is not None:
            space = self._latency.of(space, self.original)
        judge = move.score or self.recipe.solve or self.recipe.score
        assert judge is not None
        before = None if structure.cuts else self.keep
        self.sizes = {g.name: g.size for g in space} | self.sizes
        budget = move.budget or self.recipe.budget
        needs = (*judge.needs, *(n for r in self.recipe.recovery for n in r.needs))
        asks = bool(needs) or any(r.rebuilds for r in self.recipe.recovery)
        stepwise = self.recipe.propagation != "whole" and asks and isinstance(self.original, nn.Module)
        if stepwise:
            needs = judge.needs if budget is not None and budget.needs_scores else ()
        if budget is not None and getattr(budget, "by_blocks", False):
            first = next(iter(self._batches_for(budget.needs)))
            space = sectioned(space, layout_for(self.original, self._goal, first))
        notes = None if self._run is None else MoveNotes(self._run, len(self.history))
        evidence = self._collect(space, (*needs, *getattr(budget, "needs", ())), notes)
        trial = self._trial(structure)
        stats = Stats(evidence, keep=before, sizes=self.sizes, seed=self._seed, step=step, trial=trial, notes=notes)
        left, wanted = self._of_what_is_left(move, space), self._wanted(move, space)
        facts: dict[str, Any] = {}
        refines = self.recipe.refine is not None
        if stepwise:
            batches = list(self._batches_for(judge.needs))
            dense = originals(space) if refines else None
            found = prune_blocks_(
                self.original,
                self.recipe,
                left,
                space,
                stats,
                self._goal,
                batches,
                wanted,
                hold=self._hold,
                journal=self._journal(),
            )
            choice, plan, facts = Choice(Keep(found.keep)), found.plan, {"blocks": found.facts}
            self.masks = found.masks
            if refines:
                choice, told = self._refined(left, space, choice, stats, batches, dense)
                facts |= told
                structure.apply_(self.original, choice)
        else:
            with torch.no_grad():
                choice = decided(space, self.recipe, left, stats, wanted)
            if refines:
                choice, facts = self._refined(left, space, choice, stats, None, None)
            self.subject, plan = structure.apply_(self.original, choice)
        self.plan += plan
        self.keep = self._together(choice.keep, space)
        if structure.cuts:
            self._cuts.append(choice.keep)
        self.kept |= counts(space, choice.keep) | {n: r.count * r.group.lanes for n, r in choice.routes.items()}
        if self._keeper is not None:
            self._keeper.refresh()
        what = {"step": step, "kind": move.kind.value, "target": move.sparsity, "sparsity": self.sparsity}
        self.history.append(what | facts)

    def _journal(self) -> Journal | None:
        """Where finished blocks are noted."""
        if self._run is None:
            return None
        structure = self.recipe.structure
        cuts = partial(structure.apply_, self.original) if structure.cuts else None
        return Journal(self._run, self.original, self._hold, len(self.history), cuts)

    def _refined(
        self,
        move: Move,
        space: Space,
        choice: Choice,
        stats: Stats,
        batches: Sequence[Any] | None,
        dense: Mapping[str, Tensor] | None,
    ) -> tuple[Choice, dict[str, Any]]:
        assert self._task is not None and isinstance(self.original, nn.Module)
        few = list(islice(self._task.batches("train", epoch=0), self._batches)) if batches is None else batches
        return refined(self.original, self.recipe, move, space, choice, stats, self._task, few, dense)

    def _trial(self, structure: Structure) -> MeasuredTrial | None:
        """What measures a keep, where there is a task to measure it by."""
        if self._task is None or not isinstance(self.original, nn.Module):
            return None
        measured_anew = any(isinstance(r, RecalibrateBN) for r in self.recipe.recovery)
        return MeasuredTrial(self.original, structure, self._task, self._batches, measured_anew)

    def _of_what_is_left(self, move: Move, space: Space) -> Move:
        """The move, whose share counts all units there ever were, for a space from which some were cut."""
        if not self.recipe.structure.cuts or move.sparsity is None:
            return move
        stay = (1 - move.sparsity) * sum(self.sizes.values())
        gone_groups = sum(self.kept.get(name, 0) for name in self.sizes if name not in space)
        return replace(move, sparsity=min(max(1 - (stay - gone_groups) / max(space.size, 1), 0.0), 1 - 1e-9))

    def _wanted(self, move: Move, space: Space) -> Wanted | None:
        """What the subject may cost after this move, where the target is a cost."""
        name = self.target.cost
        if not name or move.sparsity is None:
            return None
        if self._dense_cost is None:
            self._dense_cost = total_of(space, name)({})
        last = move.sparsity >= self.target.sparsity
        return Wanted(name, (1 - move.sparsity) * self._dense_cost, self._dense_cost, last)

    def _together(self, keep: Keep, space: Space) -> Keep:
        """What stays of the units that there were at first."""
        found = {} if self.keep is None else dict(self.keep.masks)
        for name, mask in keep.masks.items():
            known = found.get(name)
            if self.recipe.structure.cuts and known is not None and int(known.sum()) == mask.numel():
                whole = known.clone().reshape(-1)
                whole[known.reshape(-1).nonzero().flatten()] = mask.reshape(-1).to(whole.device)
                mask = whole.reshape(known.shape)
            found[name] = mask
        for group in (g for g in space if g.lanes_of in found and g.name in found):
            own, lanes = found[group.name], found[group.lanes_of]
            if own.dim() == 2 and lanes.shape == own.shape[:1]:  # with a head go all of its features
                found[group.name] = own & lanes[:, None].to(own.device)
        return Keep(found)

    def cut_(self, dense: nn.Module) -> nn.Module:
        """Another copy of the dense subject, cut as this one was, in place: move by move, as units were then."""
        twin: Any = dense
        for keep in self._cuts:
            twin, _ = unproven(self.recipe.structure).apply_(twin, Choice(keep))
        assert isinstance(twin, nn.Module)
        Plan(tuple(a for a in self.plan.actions if isinstance(a, AddBias))).replay_(twin)  # as zeros
        return twin

    def state(self) -> dict[str, Any]:
        """What another process needs to go on, beside the subject's own tensors."""
        keep = None if self.keep is None else dict(self.keep.masks)
        counts = {"kept": dict(self.kept), "sizes": dict(self.sizes), "cost": self._dense_cost}
        cuts = [dict(keep.masks) for keep in self._cuts]
        return {"keep": keep, "plan": self.plan.to_json(), "history": list(self.history), "cuts": cuts, **counts}

    def restore_(self, state: Mapping[str, Any]) -> None:
        """Take up where another process stopped: the same shapes and masks, whose values the state dict brings."""
        self.keep = None if state["keep"] is None else Keep(state["keep"])
        self.plan = Plan.from_json(state["plan"])
        self.history[:] = state["history"]
        self.kept, self.sizes = dict(state["kept"]), dict(state["sizes"])
        self._dense_cost = state["cost"]
        first = [] if self.keep is None or not self.recipe.structure.cuts else [state["keep"]]
        self._cuts = [Keep(masks) for masks in state.get("cuts", first)]
        if isinstance(self.subject, nn.Module):
            self.plan.replay_(self.subject)
        if self._keeper is not None:
            self._keeper.refresh()

    def enforce_(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero what was just pruned in the optimizer's moments too, or cut it out of them."""
        if self._keeper is not None:
            self._keeper.enforce_(optimizer)
        if self.recipe.structure.cuts:
            follow_(optimizer)

    def close(self) -> None:
        """Stop keeping masks in force; they stay on the subject."""
        if self._keeper is not None:
            self._keeper.close()

    def _collect(
        self, space: Space, needs: Iterable[Statistic], notes: Notes | None = None
    ) -> dict[tuple[str, Statistic], Tensor]:
        needs = tuple(needs)
        if not needs:
            return {}
        batches = self._batches_for(needs)
        return collect(self.subject, space.leaves(), needs, self._goal, batches, notes)

    @property
    def _goal(self) -> Task:
        """The task; where there is none, one that knows how to call a model."""
        return self._task or Task(train=[], test=[])

    def _batches_for(self, needs: tuple[Statistic, ...]) -> Iterable[Any]:
        """What statistics are collected on."""
        calibration, task = self.recipe.calibration, self._task
        if calibration is not None and self._example is not None and isinstance(self.subject, nn.Module):
            return calibration.batches(self.subject, self._example, self._seed)
        if task is None or not isinstance(self.subject, nn.Module):
            raise RecipeError(
                f"{', '.join(type(n).__name__ for n in needs) or 'what blocks give'} must be collected from data, "
                "and there is no task",
                where=type(self.recipe.score or self.recipe.solve).__name__,
                mend="pass task=sc.Task(train=..., test=...)",
            )
        return islice(task.batches("train", epoch=0), self._batches)


def existing_keep(model: nn.Module, space: Space) -> Keep | None:
    """The keep of masks that the model already has, groups without one being whole; None where it has none."""
    masks = masks_of(model)
    return keep_of(space, masks) if masks else None


def keep_of(space: Space, masks: Mapping[str, Tensor]) -> Keep:
    """Masks in the tensors' own shapes as a keep of the space's units; a group without a mask is whole."""
    found = {}
    for group in space:
        mask = masks.get(group.name)
        whole = mask is None or group.site is None
        found[group.name] = torch.ones(group.shape, dtype=torch.bool) if whole else group.site.gathered(mask)  # type: ignore[union-attr, arg-type]
    return Keep(found)
