"""Names of the parts of a recipe: a class `CubicGradual` in the room `schedules` is written `cubic-gradual`.

The names follow from the classes that a room exports, so there is no second list to keep.
"""

import re
from types import ModuleType


def part_name(cls: type) -> str:
    """`FineTune` -> `fine-tune`, `NM` -> `nm`, `ERK` -> `erk`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", cls.__name__).lower()


def parts_of(room: ModuleType) -> dict[str, type]:
    """The parts that a room exports, by the name that YAML and the command line use."""
    exported = (getattr(room, name) for name in room.__all__)
    return {part_name(cls): cls for cls in exported if isinstance(cls, type)}
