"""Pruner: a recipe at work on one subject, in the engine's training loop or in the user's own."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from secateur.calibration import collect
from secateur.core import (
    Clock,
    Keep,
    MaskKeeper,
    Move,
    Plan,
    Recipe,
    RecipeError,
    Space,
    Statistic,
    Stats,
    Target,
    Task,
    masks_of,
    remove_masks_,
)
from secateur.schedules import OneShot

from .decide import decide
from .methods import as_recipe, implied_target


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
        epoch_steps: optimizer steps in an epoch, for schedules written in epochs.
        task: where scores that need data read it; not needed for magnitude.
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
        epoch_steps: int | None = None,
        task: Task | None = None,
        batches: int = 16,
        seed: int = 0,
    ) -> None:
        self.recipe = as_recipe(recipe)
        self.space = self.recipe.structure.find(model)
        self.target = implied_target(self.recipe, self.space, sparsity)
        legs = self.schedule.legs(self.target)
        self._core = DecisionMaker(model, self.recipe, self.target, task=task, batches=batches, seed=seed)
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
        batches: int,
        seed: int,
    ) -> None:
        self.subject = self.original = subject
        self.recipe, self.target = recipe, target
        self.plan = Plan()
        self.keep: Keep | None = None
        self.history: list[dict[str, Any]] = []
        self._task, self._batches, self._seed = task, batches, seed
        self._keeper: MaskKeeper | None = None
        self.kept: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        if isinstance(subject, nn.Module):
            self._keeper = MaskKeeper(subject, mask_gradients=recipe.schedule is None or not recipe.schedule.regrows)
            self.keep = existing_keep(subject, recipe.structure.find(subject))

    @property
    def sparsity(self) -> float:
        """Share of all units, of every group decided on so far, that is gone."""
        return 1 - sum(self.kept.values()) / max(sum(self.sizes.values()), 1)

    def act_(self, move: Move, step: int) -> None:
        """Decide and apply, in place where the subject allows it."""
        structure = self.recipe.structure
        if structure.rewrite_needs:
            evidence = self._collect(structure.find(self.original), structure.rewrite_needs)
            self.plan += structure.rewrite_(self.original, Stats(evidence, seed=self._seed, step=step))
        space = structure.find(self.original)
        judge = move.score or self.recipe.solve or self.recipe.score
        assert judge is not None
        stats = Stats(self._collect(space, judge.needs), keep=self.keep, seed=self._seed, step=step)
        with torch.no_grad():
            choice = decide(space, self.recipe, move, stats)
        self.subject, plan = structure.apply_(self.original, choice)
        self.plan += plan
        self.keep = Keep({**({} if self.keep is None else self.keep.masks), **choice.keep.masks})
        self.kept |= choice.keep.counts | {n: r.count * r.group.lanes for n, r in choice.routes.items()}
        self.sizes |= {g.name: g.size for g in space}
        if self._keeper is not None:
            self._keeper.refresh()
        what = {"step": step, "kind": move.kind.value, "target": move.sparsity, "sparsity": self.sparsity}
        self.history.append(what)

    def state(self) -> dict[str, Any]:
        """What another process needs to go on, beside the subject's own tensors."""
        keep = None if self.keep is None else dict(self.keep.masks)
        counts = {"kept": dict(self.kept), "sizes": dict(self.sizes)}
        return {"keep": keep, "plan": self.plan.to_json(), "history": list(self.history), **counts}

    def restore_(self, state: Mapping[str, Any]) -> None:
        """Take up where another process stopped: the same shapes and masks, whose values the state dict brings."""
        self.keep = None if state["keep"] is None else Keep(state["keep"])
        self.plan = Plan.from_json(state["plan"])
        self.history[:] = state["history"]
        self.kept, self.sizes = dict(state["kept"]), dict(state["sizes"])
        if self._keeper is not None:
            self.plan.replay_(self.subject)
            self._keeper.refresh()

    def enforce_(self, optimizer: torch.optim.Optimizer) -> None:
        """Zero what was just pruned in the optimizer's moments too."""
        if self._keeper is not None:
            self._keeper.enforce_(optimizer)

    def close(self) -> None:
        """Stop keeping masks in force; they stay on the subject."""
        if self._keeper is not None:
            self._keeper.close()

    def _collect(self, space: Space, needs: Iterable[Statistic]) -> dict[tuple[str, Statistic], Tensor]:
        needs = tuple(needs)
        if not needs:
            return {}
        if self._task is None or not isinstance(self.subject, nn.Module):
            raise RecipeError(
                f"{', '.join(type(n).__name__ for n in needs)} must be collected from data, and there is no task",
                where=type(self.recipe.score or self.recipe.solve).__name__,
                mend="pass task=sc.Task(train=..., test=...)",
            )
        batches = islice(self._task.batches("train", epoch=0), self._batches)
        return collect(self.subject, space, needs, self._task, batches)


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
