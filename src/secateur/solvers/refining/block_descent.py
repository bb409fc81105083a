r"""Block coordinate descent on a mask (iCBS: Rosenberg et al., "Scalable Iterative Pruning ...", 2024).

Step by step one layer and one minibatch are drawn, a block of its units is chosen, some gone and some kept, and

    min_x x^T Q x,   as many gone as now

is solved, where x^T Q x is the change of the loss to second order at the weights as they are by then. Units that come
back have their original values again.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from secateur.core import Group, Keep, RecipeError, Refine, Space, Stats, Task, device_of, to_device
from secateur.core.progress import report
from secateur.core.task import in_eval_mode

from .binary_quadratic import Annealing, solved
from .candidates import Candidates
from .descent_notes import Descent
from .loss_change import empirical_fisher, quadratic
from .slopes import Slopes, frozen, hessian

Curvature = Literal["gradient_per_sample", "gradient_mean", "exact", "exact_piecewise"]
_log = logging.getLogger(__name__)
_LEAST = 10


@dataclass(frozen=True)
class BlockDescent(Refine):
    """Units of one block after another change places, so many gone as before.

    Attributes:
        steps: how many blocks.
        block: units of each, and
        pruned: how many of them are gone before; half, where that is None.
        choose: which gone and kept ones: those whose recipe "score" or whose "gradient" times original weight are
            largest and smallest, or "random" ones.
        layers: drawn "uniform"ly, or by the "log-size" of each, ten times at least where steps suffice.
        curvature: the Hessian: G^T G / B of the gradients of single samples, g g^T / B of their mean, or exact, all at
            once or `piece` rows at a time.
        trust: what the gradient is multiplied with.
        ridge: lambda of lambda |d|^2.
        tabu: units that took part lately do not, until more than this share of a layer's free ones did since.
        fix_pruned, fix_kept: shares of the pruned and the kept ones of each layer that stay what they are: those of
            the lowest, and the highest, scores.
        free_zeros: units that the loss does not depend on go first.
        sweeps, restarts: of the annealing that solves blocks.
    """

    steps: int = 120
    block: int = 128
    pruned: int | None = None
    choose: Literal["score", "gradient", "random"] = "gradient"
    layers: Literal["uniform", "log-size"] = "uniform"
    curvature: Curvature = "gradient_per_sample"
    piece: int = 200
    trust: float = 1.0
    ridge: float = 0.0
    tabu: float = 0.0
    fix_pruned: float = 0.0
    fix_kept: float = 0.0
    free_zeros: bool = False
    sweeps: int = 1
    restarts: int = 1

    def __post_init__(self) -> None:
        shares = all(0 <= share < 1 for share in (self.tabu, self.fix_pruned, self.fix_kept))
        if self.steps < 1 or self.block < 2 or self.piece < 1 or not shares or self.ridge < 0 or self.trust < 0:
            raise RecipeError(
                f"steps is {self.steps}, block {self.block}, piece {self.piece}, tabu {self.tabu}, "
                f"fix_pruned {self.fix_pruned}, fix_kept {self.fix_kept}, ridge {self.ridge}, trust {self.trust}",
                where="BlockDescent(...)",
                mend="steps and piece are 1 or more, block 2 or more; shares lie in [0, 1); ridge and trust from 0 on",
            )
        Annealing(sweeps=self.sweeps, restarts=self.restarts)
        if self.pruned is not None and not 0 < self.pruned < self.block:
            raise RecipeError(
                f"{self.pruned} of a block of {self.block} are to be pruned ones",
                where="BlockDescent(pruned=...)",
                mend="some are pruned and some are kept: between 1 and block - 1",
            )

    def __call__(
        self, model: nn.Module, space: Space, keep: Keep, stats: Stats, task: Task, batches: Sequence[Any]
    ) -> tuple[Keep, Mapping[str, Any]]:
        layers = {g.name: self._candidates(g, keep, stats) for g in space}
        groups = [g for g in space if _can_change(layers[g.name])]
        if not groups:
            return keep, {"steps": 0}
        descent = Descent(layers, stats.rng(groups[0], "block descent"))
        original = {g.name: _tensor(g).detach().clone() for g in groups}
        batches = [to_device(batch, device_of(model)) for batch in batches]
        with in_eval_mode(model), frozen(model):
            try:
                before, after = self._descend_(model, task, batches, groups, descent, original, stats)
            finally:
                for group in groups:
                    _tensor(group).data.copy_(original[group.name])
        if idle := [name for name, used in descent.used.items() if not used]:
            _log.warning("the loss does not depend on %s, which stays as it is", ", ".join(idle))
        found = {g.name: (~layers[g.name].gone).reshape(g.shape).to(keep[g.name].device) for g in space}
        moved = sum(int((found[n] & ~keep[n]).sum()) for n in found)
        return Keep(found), {"steps": self.steps, "returned": moved, "loss_before": before, "loss_after": after}

    def _descend_(
        self,
        model: nn.Module,
        task: Task,
        batches: Sequence[Any],
        groups: list[Group],
        descent: Descent,
        original: Mapping[str, Tensor],
        stats: Stats,
    ) -> tuple[float, float]:
        """All steps, or those that an earlier process left; the loss before the first and after the last."""
        rng, order = descent.rng, self._order(groups, descent.rng)
        if stats.notes is not None:
            descent.take_up_(stats.notes)
        for group in groups:
            _put_(group, original[group.name], descent.layers[group.name].gone)
        if descent.before is None:
            descent.before = _loss(model, task, batches)
        for group in order[descent.done :]:
            batch = batches[int(torch.randint(len(batches), (1,), generator=rng))]
            mine, name = descent.layers[group.name], group.name
            used = self._step_(model, task, batch, group, mine, original[name], stats, rng)
            descent.used[name] = descent.used.get(name, False) or used
            descent.done += 1
            report("block descent", descent.done, self.steps)
            if stats.notes is not None and stats.notes.due():
                descent.write(stats.notes)
        return descent.before, _loss(model, task, batches)

    def _candidates(self, group: Group, keep: Keep, stats: Stats) -> Candidates:
        if group.site is None or group.site.tile != (1, 1):
            raise RecipeError(
                "block descent exchanges single weights, also within N:M patterns",
                where=f"group {group.name!r}",
                mend='structure="weights" or "2:4"',
            )
        gone = ~keep[group.name].flatten().cpu()
        free = torch.ones_like(gone) if stats.keep is None else stats.keep[group.name].flatten().cpu().clone()
        made = Candidates(group.name, gone, free, group.lane, self.tabu)
        if self.fix_pruned or self.fix_kept:
            made.fix(self._scores(group, stats), self.fix_pruned, self.fix_kept)
        return made

    def _scores(self, group: Group, stats: Stats) -> Tensor:
        if group.name not in stats.scores:
            raise RecipeError(
                "there are no scores to choose by: a solver chose, or blocks were judged one after another",
                where=f"BlockDescent(choose={self.choose!r}, fix_pruned={self.fix_pruned}, fix_kept={self.fix_kept})",
                mend='choose="gradient" or "random", and no fixed shares',
            )
        return stats.scores[group.name].flatten().cpu()

    def _order(self, groups: list[Group], rng: Generator) -> list[Group]:
        """Which layer at which step."""
        if self.layers == "uniform":
            return [groups[i] for i in torch.randint(len(groups), (self.steps,), generator=rng).tolist()]
        sizes = torch.tensor([g.size for g in groups], dtype=torch.float64).log1p()
        least = _LEAST if self.steps >= _LEAST * len(groups) else 0
        rest = self.steps - least * len(groups)
        ends = (sizes.cumsum(0) / sizes.sum() * rest).round().long()
        counts = ends.diff(prepend=ends.new_zeros(1)) + least
        every = torch.arange(len(groups)).repeat_interleave(counts)
        return [groups[i] for i in every[torch.randperm(len(every), generator=rng)].tolist()]

    def _step_(
        self,
        model: nn.Module,
        task: Task,
        batch: Any,
        group: Group,
        mine: Candidates,
        original: Tensor,
        stats: Stats,
        rng: Generator,
    ) -> bool:
        """One block of one layer, in place; whether the loss depends on the layer."""
        assert group.site is not None
        slopes = Slopes(model, task, batch, group)
        w0 = group.site.unfold(original).flatten()
        if self.choose == "gradient":
            scores = (w0.float() * slopes.mean.flatten()).abs().cpu()
        elif self.choose == "score":
            scores = self._scores(group, stats)
        else:
            scores = torch.rand(group.size, generator=rng)
        block = mine.block(scores, self.block, self.pruned)
        if not len(block) or not slopes.used:
            return slopes.used
        at = block.to(w0.device)
        H, g = self._curvature(model, task, batch, group, slopes, at)
        values, gone = w0[at].double().cpu(), mine.gone[block]
        Q, _ = quadratic(H.double().cpu(), g.double().cpu(), values, -values * gone, self.trust, self.ridge)
        mine.gone[block] = self._solved(Q, gone, mine.lanes[block], rng)
        mine.remember(block)
        _put_(group, original, mine.gone)
        return True

    def _curvature(
        self, model: nn.Module, task: Task, batch: Any, group: Group, slopes: Slopes, at: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Hessian and gradient of the block."""
        g = slopes.mean.flatten()[at]
        if self.curvature == "gradient_per_sample":
            return empirical_fisher(slopes.of(at)), g
        if self.curvature == "gradient_mean":
            return torch.outer(g, g) / slopes.samples, g
        return hessian(model, task, batch, group, at, self.piece if self.curvature == "exact_piecewise" else None), g

    def _solved(self, Q: Tensor, gone: Tensor, lanes: Tensor, rng: Generator) -> Tensor:
        fixed = torch.zeros_like(gone)
        if self.free_zeros:
            fixed = _for_free(Q, gone, lanes)
        rest = ~fixed
        start = gone.clone()
        for lane in set(lanes[fixed].tolist()):  # the others give up as many places
            here = (rest & (lanes == lane) & start).nonzero().flatten()
            start[here[: int((fixed & (lanes == lane) & ~gone).sum())]] = False
        found, how = fixed.clone(), Annealing(sweeps=self.sweeps, restarts=self.restarts)
        found[rest] = solved(Q[rest][:, rest], start[rest], rng, lanes[rest], how)
        return found


def _for_free(Q: Tensor, gone: Tensor, lanes: Tensor) -> Tensor:
    """Units that no row or column of Q knows of, as many of each lane as are to be gone there."""
    idle = ((Q == 0).all(0) & (Q == 0).all(1)).nonzero().flatten()
    fixed = torch.zeros_like(gone)
    for lane in set(lanes[idle].tolist()):
        here = idle[lanes[idle] == lane]
        fixed[here[: int(gone[lanes == lane].sum())]] = True
    return fixed


def _can_change(mine: Candidates) -> bool:
    return bool((mine.gone & mine.free).any() and (~mine.gone & mine.free).any())


def _tensor(group: Group) -> Tensor:
    assert group.site is not None
    return group.site.tensor


@torch.no_grad()
def _put_(group: Group, original: Tensor, gone: Tensor) -> None:
    """The original weights without what is gone, in place."""
    assert group.site is not None
    mask = group.site.spread(gone.reshape(group.shape)).to(original.device)
    group.site.tensor.data.copy_(original.masked_fill(mask, 0))


@torch.no_grad()
def _loss(model: nn.Module, task: Task, batches: Sequence[Any]) -> float:
    return float(sum(task.loss(task.call(model, batch), batch) for batch in batches)) / len(batches)
