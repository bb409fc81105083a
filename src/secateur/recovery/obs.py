r"""Refitting the layers that read what goes, by the optimal brain surgeon (Wang et al., 2024, section 3.3).

W <- W - W[:,P] ([H^-1]_PP)^-1 [H^-1]_P,:     for all inputs P that go; their columns become zero
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from secateur.core import Group, Healing, InputGram, Keep, Recovery, Space, Stats, Task
from secateur.core.second_moments import as_matrix, as_tensor, damped_inverse, lost_positions


def refitted(
    W: Float[Tensor, "out in"], inverse: Float[Tensor, "in in"], gone: Bool[Tensor, " in"]
) -> Float[Tensor, "out in"]:
    """The weights with the columns that go at zero and the others making up for them."""
    P = gone.nonzero().flatten()
    new: Tensor = W - W[:, P] @ torch.linalg.solve(inverse[P][:, P], inverse[P])
    return new.masked_fill(gone, 0)


@dataclass(frozen=True)
class ObsUpdate(Recovery):
    """At every cut, the layers that read what goes are refitted to give what they gave."""

    damping: float = 0.01

    @property
    def needs(self) -> tuple[InputGram, ...]:
        return (InputGram(),)

    @property
    def needs_task(self) -> bool:
        return False

    def begin(self, model: nn.Module, task: Task) -> Healing:
        """It acts at the cuts alone."""
        return Healing()

    def repaired(self, space: Space, keep: Keep, stats: Stats) -> Mapping[str, Tensor]:
        found = lost_positions(space, keep, stats)
        return {name: self._refitted(m.group, stats, gone) for name, (m, gone) in found.items()}

    def _refitted(self, slices: Group, stats: Stats, gone: Tensor) -> Tensor:
        gram = stats[slices, InputGram()]
        width = len(gram) // slices.size
        inverse = damped_inverse(gram, self.damping, slices.name)
        columns = gone.repeat_interleave(width).to(gram.device)
        return as_tensor(refitted(as_matrix(slices, width), inverse, columns), slices, width)
