"""When: a clock of optimizer steps, and points on it as a user writes them."""

from dataclasses import dataclass

from .errors import RecipeError

Point = int | float | str
"""A moment or a length: 500 (steps), 0.25 (share of the training), or "2 epochs"."""


@dataclass(frozen=True)
class Clock:
    """Where training stands.

    Attributes:
        step: optimizer steps done, 0 before the first.
        leg_steps: steps of one leg; a leg is one pass through the learning-rate schedule.
        legs: how many legs there are; after each, an iterative schedule prunes and may rewind.
        epoch_steps: optimizer steps in an epoch, if known.
    """

    step: int
    leg_steps: int
    legs: int = 1
    epoch_steps: int | None = None

    @property
    def total(self) -> int:
        """Steps of the whole training."""
        return self.leg_steps * self.legs

    def at(self, point: Point, of: int | None = None, where: str = "a schedule") -> int:
        """The step that a `Point` names; shares are of `of`, by default of the whole training."""
        if isinstance(point, str):
            number, _, unit = point.strip().partition(" ")
            try:
                epochs = float(number)
            except ValueError:
                epochs = float("nan")
            if unit not in ("epoch", "epochs") or not 0 <= epochs < float("inf"):
                raise RecipeError(
                    f"{point!r} is no moment of training", where=where, mend='write 500 (steps), 0.25 or "2 epochs"'
                )
            if self.epoch_steps is None:
                raise RecipeError(
                    f"{point!r} needs the length of an epoch", where=where, mend="pass epoch_steps=..., or use steps"
                )
            return round(epochs * self.epoch_steps)
        if isinstance(point, float):
            return round(point * (self.total if of is None else of))
        return point
