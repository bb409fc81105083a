"""A prefix of an order: as Global, but only as far as the order was found, and never all units of one class."""

from dataclasses import dataclass

from torch import Tensor

from secateur.core import Budget, BudgetError, Counts, RecipeError, Space, Stats, Target

from .global_ import Global


@dataclass(frozen=True)
class Prefix(Budget):
    """The lowest scores go, wherever they are.

    Attributes:
        most: the share of the units that may go at all.
        force: whether all units of one class of modules may go, where groups tell classes (every attention, say).
    """

    most: float = 1.0
    force: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.most <= 1:
            raise RecipeError(f"most is {self.most}", where="Prefix(most=...)", mend="a share, above 0 and at most 1")

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        space, counts = Global().allocate(space, evidence, target)
        gone = space.size - sum(counts.values())
        if gone > round(self.most * space.size, 9):
            raise BudgetError(
                f"{gone} of {space.size} units are to go, but the order was found for {self.most:.4g} of them",
                where=f"Prefix(most={self.most})",
                mend=f"most={gone / space.size:.4g} or more",
            )
        for group in space if not self.force else ():
            lost = _lost(group.labels, evidence.scores[group.name], counts[group.name])
            if lost:
                names = ", ".join(group.names[i] for i in lost if group.names) or f"{len(lost)} units"
                raise BudgetError(
                    f"all units of a class would go: {names}",
                    where=f"group {group.name!r}",
                    mend="a lower sparsity, or force=True",
                )
        return space, counts


def _lost(labels: Tensor | None, scores: Tensor, stays: int) -> list[int]:
    """The units of the first class of which none would stay."""
    if labels is None or stays == len(labels):
        return []
    order = scores.flatten().sort(stable=True).indices.tolist()
    left = {int(labels[i]) for i in order[len(order) - stays :]}
    lost = next((one for one in labels.tolist() if one not in left), None)
    return [i for i, one in enumerate(labels.tolist()) if one == lost]
