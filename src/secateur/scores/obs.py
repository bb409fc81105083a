r"""What the readers of a unit lose with it, by the optimal brain surgeon (Wang et al., 2024, section 3.3).

    e_J = sum_o W[o,J] ([H^-1]_JJ)^-1 W[o,J]^T,     H = 2/N sum x x^T, damped

is twice the mean squared error that is left when the other weights have taken over from the inputs J of a unit.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secateur.core import Group, InputGram, Member, RecipeError, Score, Stats
from secateur.core.second_moments import as_matrix, damped_inverse, reads

from .coupled import Normalize, combined, normalized


def block_errors(
    W: Float[Tensor, "out in"], inverse: Float[Tensor, "in in"], columns: Int[Tensor, "units width"]
) -> Float[Tensor, " units"]:
    """e_J of every unit; for single columns that is w^2 / [H^-1]_jj, summed over outputs."""
    blocks = inverse[columns[:, :, None], columns[:, None, :]]
    mine = W[:, columns].permute(1, 2, 0)
    solved: Tensor = torch.linalg.solve(blocks, mine)
    errors: Tensor = (mine * solved).sum((1, 2))
    return errors


@dataclass(frozen=True)
class ObsError(Score):
    """What the readers of a unit lose with it, each scaled by its mean and put together as in SPA."""

    damping: float = 0.01
    over: Literal["sum", "mean", "max", "prod"] = "sum"
    of_members: Normalize = "mean"

    knows_coupled = True

    @property
    def needs(self) -> tuple[InputGram, ...]:
        return (InputGram(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        found = [self._of(m, stats) for m in group.members if reads(m, stats)]
        if not found:
            raise RecipeError(
                "no Linear or convolution reads it, so there is nothing to reconstruct",
                where=f"group {group.name!r}",
                mend=f"exclude=[{group.name!r}], or a method that scores weights, such as spa",
            )
        return normalized(combined(torch.stack(found), self.over), "mean")

    def _of(self, member: Member, stats: Stats) -> Tensor:
        slices, gram = member.group, stats[member.group, InputGram()]
        width = len(gram) // slices.size
        columns = (member.index[:, :, None] * width + torch.arange(width)).flatten(1).to(gram.device)
        W, inverse = as_matrix(slices, width), damped_inverse(gram, self.damping, slices.name)
        return normalized(block_errors(W, inverse, columns).clamp_min(0), self.of_members)
