"""How much the outputs change without a layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.core import Event, Group, RecipeError, Score, Silenced, State, Statistic, Stats, summed

from .distances import kl as divergence


@dataclass(frozen=True)
class OutputDivergence(Statistic):
    """The mean divergence between what the subject gives and what it gives without each unit: `[units]`."""

    on = Silenced

    def zero(self, group: Group) -> State:
        return {"sum": torch.zeros(()), "samples": torch.zeros(())}

    def update(self, state: State, event: Event) -> State:
        assert isinstance(event, Silenced)
        added = torch.zeros(event.units, dtype=torch.float64, device=event.whole.device)
        added[event.unit] = divergence(event.whole.double(), event.without.double()).mean() * event.samples
        samples = event.samples if event.unit == 0 else 0  # one batch comes once for each unit
        return {"sum": state["sum"].to(added.device) + added, "samples": state["samples"] + samples}

    def merge(self, a: State, b: State) -> State:
        return summed(a, b)

    def value(self, state: State) -> Tensor:
        return state["sum"] / state["samples"].to(state["sum"].device)


@dataclass(frozen=True)
class KL(Score):
    """KL(p || p without it) of every whole layer, over the task's batches: what Luo & Wu (CVPR 2020) ask of filters.

    It runs the model once for each layer and batch. Labels are not read.
    """

    knows_whole = True

    @property
    def needs(self) -> tuple[OutputDivergence, ...]:
        return (OutputDivergence(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        if not group.without:
            raise RecipeError(
                "the divergence is that of whole layers, which are left out one by one",
                where=f"KL on group {group.name!r}",
                mend="use Layers, or a score of weights such as Taylor",
            )
        return stats[group, OutputDivergence()]
