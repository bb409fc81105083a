"""Recipe: one answer to each of the five questions. It is the default procedure, and what a checkpoint records."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Literal

from .errors import RecipeError
from .judging import Budget, Score
from .parts import part_name
from .protocols import Calibration, Recovery, Refine, Schedule, Solve, Structure
from .select import Select, TopK


@dataclass(frozen=True)
class Recipe:
    """What may go, how much each unit matters, how much goes where, when, and how it is healed.

    Attributes:
        structure: what may go.
        score: how much each unit matters; or
        solve: choosing and repairing in one act. Exactly one of the two.
        budget: how much goes where; None gives every group the same share.
        select: which units of a lane stay, given the count.
        schedule: when; None prunes once, before the first step of recovery.
        recovery: how it is healed.
        calibration: what statistics are collected on; None takes the task's training data.
        propagation: "whole" judges the subject as it is, all of it at once; "pruned" goes through it block by block,
            and each block is judged by what the pruned blocks before it give; "stages" splits blocks where their layers
            follow each other (queries, keys and values; what reads attention; ...).
        allow_collapse: whether a group may lose all its units; an error by default.
        refine: what looks for a better choice of the same size; None takes the one that was made.

    Raises:
        RecipeError: neither or both of `score` and `solve`.
    """

    structure: Structure
    score: Score | None = None
    solve: Solve | None = None
    budget: Budget | None = None
    select: Select = TopK()
    schedule: Schedule | None = None
    recovery: Sequence[Recovery] = ()
    calibration: Calibration | None = None
    propagation: Literal["whole", "pruned", "stages"] = "whole"
    allow_collapse: bool = False
    refine: Refine | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "recovery", tuple(self.recovery))
        if (self.score is None) == (self.solve is None):
            both = "both a score and a solver" if self.score else "neither a score nor a solver"
            raise RecipeError(f"the recipe has {both}", where="Recipe(...)", mend="give one of score=, solve=")
        if self.propagation not in ("whole", "pruned", "stages"):
            raise RecipeError(
                f"there is no propagation {self.propagation!r}",
                where="Recipe(propagation=...)",
                mend='"whole", "pruned" or "stages"',
            )
        alone = [type(r).__name__ for r in self.recovery if r.rebuilds]
        if alone and self.propagation == "whole":
            raise RecipeError(
                f"{alone[0]} heals block by block, and the model is pruned as a whole",
                where="Recipe(recovery=...)",
                mend='propagation="pruned"',
            )

    def to_json(self) -> dict[str, object]:
        """The recipe as plain data, in the form that YAML files use."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {part_name(type(value)): {f.name: _plain(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else _stable_name(value)


def _stable_name(value: object) -> str:
    """What an object is, without where it lies in memory: the same in every process, so that runs can resume."""
    code = getattr(value, "__code__", None)
    if code is None:
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
    does = (code.co_code, code.co_names, [c for c in code.co_consts if isinstance(c, str | int | float | None)])
    digest = hashlib.sha256(repr(does).encode()).hexdigest()[:8]
    return f"{value.__module__}.{getattr(value, '__qualname__', '')}#{digest}"
