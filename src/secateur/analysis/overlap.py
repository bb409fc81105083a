"""Overlap of two keeps, group by group, beside the overlap that chance would give."""

from dataclasses import dataclass

from secateur.core import Keep


@dataclass(frozen=True)
class Overlap:
    """Intersection over union of what two keeps retain of a group.

    Attributes:
        iou: measured, 0 to 1.
        chance: what two independent random keeps of the same densities have on average, to first order.
    """

    iou: float
    chance: float


def overlaps(first: Keep, second: Keep) -> dict[str, Overlap]:
    """The overlap of each group.

    With densities a and b, chance keeps a b of the units in both and a + b - a b in either.

    Raises:
        SubjectError: the keeps belong to different spaces.
    """
    both = first & second  # raises where they do not match
    found = {}
    for name, mask in first.masks.items():
        size, a, b = mask.numel(), first.counts[name], second.counts[name]
        joint = both.counts[name]
        random = a * b / size if size else 0.0
        found[name] = Overlap(_share(joint, a + b - joint), _share(random, a + b - random))
    return found


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
