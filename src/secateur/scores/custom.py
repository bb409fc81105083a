"""The user's own score: any function of the weight matrix."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from secateur.core import Group, RecipeError, Score, Stats


@dataclass(frozen=True)
class Custom(Score):
    """`formula(weight [out, in]) -> [out, in]`, higher = keep; summed over the weights of a unit.

    >>> import secateur as sc
    >>> sc.scores.Custom(lambda weight: weight.square())  # doctest: +ELLIPSIS
    Custom(formula=...)
    """

    formula: Callable[[Tensor], Tensor]

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        return group.pool(self._checked)

    def _checked(self, weight: Tensor) -> Tensor:
        score = self.formula(weight.clone())
        if score.shape != weight.shape:
            raise RecipeError(
                f"the formula gave shape {tuple(score.shape)} for weights of {tuple(weight.shape)}",
                where="Custom(formula)",
                mend="return one value per weight",
            )
        return score
