"""How much a stream has in each of its coordinates."""

from dataclasses import dataclass

from torch import Tensor

from secateur.core import Group, InputGram, Score, Stats


@dataclass(frozen=True)
class Energy(Score):
    """The mean square of each input of a group's module: E x_j^2. No mean is removed."""

    @property
    def needs(self) -> tuple[InputGram, ...]:
        return (InputGram(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return stats[group, InputGram()].diagonal().reshape(group.shape)
