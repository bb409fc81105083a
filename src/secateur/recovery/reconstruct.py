"""Healing block by block: each block learns to give what it gave before (Zimmer et al., "PERP", 2023).

    min over the block's trainable tensors of  || block(x) - dense block(x) ||^2

with x what the blocks before it give, which are pruned and healed already. One block and its gradients are at work at a
time, and no labels are read.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from secateur.core import Healing, MaskKeeper, Passes, RecipeError, Recovery, Task, Training, Variant, check_loss
from secateur.core.draws import seed_of
from secateur.core.progress import report

from .finetune import lr_at, optimizer_for
from .parameter_efficient import Efficient, ParameterEfficient
from .scratch import Scratch
from .tiny_subsets import Subset

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconstruct(Recovery):
    """Train each block, right after it was pruned, to give what it gave before; for recipes that go block by block.

    AdamW without weight decay, whose rate rises over the first share of the steps and then falls in a line to 0; the
    loss is the mean squared error, in float32.

    Attributes:
        steps: for each block, of one batch each.
        lr: the highest rate.
        warmup: share of the steps in which it rises.
        subsets: what of a block is trained: any of "biases", "norm" and "lora", as in `ParameterEfficient`; or "all",
            which is every weight that stays.
        lora, rank, alpha, targets: of the adapters, as there; they are merged when the block is done.

    Raises:
        RecipeError: the steps or the rate are nothing, or the subset is one that a block lacks.
    """

    steps: int = 200
    lr: float = 5e-4
    warmup: float = 0.1
    subsets: tuple[Subset, ...] | Literal["all"] = ("biases", "norm", "lora")
    lora: Variant = "mask_lora"
    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.lr > 0 or not 0 <= self.warmup < 1:
            what = f"steps is {self.steps}, lr {self.lr} and warmup {self.warmup}"
            raise RecipeError(what, where="Reconstruct", mend="1 or more, above 0, and a share in [0, 1)")
        if "head" in self.subsets:
            what, mend = "a block has no head", 'subsets=("biases", "norm", "lora")'
            raise RecipeError(what, where=f"Reconstruct(subsets={self.subsets})", mend=mend)
        tiny = self._tiny
        if tiny is not None and tiny.grows:
            what, mend = "plain adapters would stay beside the weights of each block", 'lora="mask_lora", which merges'
            raise RecipeError(what, where=f"Reconstruct(lora={self.lora!r})", mend=mend)

    @property
    def _tiny(self) -> ParameterEfficient | None:
        if self.subsets == "all":
            return None
        return ParameterEfficient(self.subsets, self.lora, self.rank, self.alpha, self.targets)

    @property
    def rebuilds(self) -> bool:
        return True

    def check(self, others: Iterable[Recovery]) -> None:
        """Refuse what throws the healed weights away."""
        if any(isinstance(other, Scratch) for other in others):
            what, mend = "training from scratch forgets what was reconstructed", "leave one of the two out"
            raise RecipeError(what, where="a recipe with Reconstruct", mend=mend)

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """Nothing is left to do on the whole model."""
        return Healing()

    def rebuild_(self, passes: Passes, seed: int) -> Mapping[str, Any]:
        """Train the block.

        Raises:
            NumericsError: the error is not finite; names block and step.
        """
        own = seed_of(f"{seed}/{passes.path}")
        before = _lost(passes)
        tiny = self._tiny
        efficient = None if tiny is None else Efficient(tiny, passes.block, own, block=True)
        with MaskKeeper(passes.block), torch.enable_grad():
            if efficient is not None:
                efficient.after_move_()
            try:
                self._fit_(passes, () if efficient is None else efficient.parameters(), own)
            finally:
                if efficient is not None:
                    efficient.finish_()
        after = _lost(passes)
        if after > before:
            worse = "%s: it loses %.3g of its energy, and %.3g before reconstruction: try a smaller lr or more steps"
            _log.warning(worse, passes.path, after, before)
        told = {} if efficient is None else efficient.facts()["parameter_efficient"]
        return {"output_error_before": before, "output_error": after, "trained": told.get("trained")}

    def _fit_(self, passes: Passes, more: Iterable[nn.Parameter], seed: int) -> None:
        training = Training(optimizer="adamw", lr=self.lr, lr_schedule="linear", warmup=self.warmup, weight_decay=0.0)
        optimizer = optimizer_for(passes.block, training, more)
        for step, batch in enumerate(_drawn(len(passes), self.steps, seed)):
            for group in optimizer.param_groups:
                group["lr"] = lr_at(training, step, self.steps)
            now, gave = passes.pair(batch)
            loss = nn.functional.mse_loss(now.float(), gave.float())
            check_loss(loss.detach(), f"step {step} of reconstructing {passes.path}")
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            report(f"reconstructing {passes.path}", step + 1, self.steps)


def _drawn(batches: int, steps: int, seed: int) -> Iterator[int]:
    """Batches in a new random order each time round."""
    rng = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(steps):
        order = order or torch.randperm(batches, generator=rng).tolist()
        yield order.pop()


@torch.no_grad()
def _lost(passes: Passes) -> float:
    """The share of the energy of what the block gave that is lost, over all batches."""
    gone = whole = 0.0
    for batch in range(len(passes)):
        now, gave = passes.pair(batch)
        gone += float((now.float() - gave.float()).square().sum(dtype=torch.float64))
        whole += float(gave.float().square().sum(dtype=torch.float64))
    return gone / whole if whole else 0.0
