"""Equal shares that leave every group a unit of its own accord: what would empty a group is refused, not rounded up."""

from dataclasses import dataclass

from secateur.core import Budget, BudgetError, Counts, Space, Stats, Target

from .uniform import Uniform, stays


@dataclass(frozen=True)
class AtLeastOne(Budget):
    """`Uniform`, but a share that leaves less than one unit of a group is an error that names the group.

    `Uniform` keeps a floor instead, and so removes less than was asked for.
    """

    @property
    def needs_scores(self) -> bool:
        return False

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        for group, kept in stays(space, evidence.sizes, target):
            if kept < 1 and group.exact is None:
                raise BudgetError(
                    f"a sparsity of {target.sparsity:.4g} leaves none of {group.lane} units",
                    where=f"AtLeastOne(), group {group.name!r}",
                    mend=f"a sparsity of {1 - 1 / group.lane:.4g} at most, exclude=[{group.name!r}], or Uniform",
                )
        return Uniform().allocate(space, evidence, target)
