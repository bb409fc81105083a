"""Fixed: the user says how much goes where."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from secateur.core import Budget, Counts, RecipeError, Space, Stats, Target, fit_count, kept_count, nearest


@dataclass(frozen=True)
class Fixed(Budget):
    """A sparsity per group.

    Attributes:
        sparsities: by group name or shell pattern; the first pattern that fits counts, and what none fits stays dense.
    """

    sparsities: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, sparsity in self.sparsities.items():
            if not 0 <= sparsity < 1:
                raise RecipeError(
                    f"the sparsity of {name!r} is {sparsity}",
                    where="Fixed(sparsities)",
                    mend="the share removed lies in [0, 1)",
                )

    @property
    def needs_scores(self) -> bool:
        return False

    def target(self, space: Space) -> Target:
        """The overall sparsity that the dictionary adds up to."""
        return Target(sum(self._of(g.name) * g.size for g in space) / space.size)

    def allocate(self, space: Space, evidence: Stats, target: Target) -> tuple[Space, Counts]:
        names = [g.name for g in space]
        for pattern in self.sparsities:
            if not any(fnmatchcase(n, pattern) for n in names):
                raise RecipeError(f"{pattern!r} fits no group", where="Fixed(sparsities)", mend=nearest(pattern, names))
        final = self.target(space).sparsity
        part = target.sparsity / final if final else 0.0  # on the way there, every group is as far along
        return space, {g.name: fit_count(g, kept_count(min(part * self._of(g.name), 1.0), g.lane)) for g in space}

    def _of(self, name: str) -> float:
        return next((s for p, s in self.sparsities.items() if fnmatchcase(name, p)), 0.0)
