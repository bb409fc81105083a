"""Keep: one boolean tensor per group. It can be saved, compared, intersected, applied, and removed for real."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import SubjectError
from .space import Space


@dataclass(frozen=True, eq=False)
class Keep:
    """What stays, per group: True means kept.

    Keeps of the same space compare with `==`, intersect with `&` and measure each other with `overlap`.
    """

    masks: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.masks[name]

    def __contains__(self, name: object) -> bool:
        return name in self.masks

    def __iter__(self) -> Iterator[str]:
        return iter(self.masks)

    def __len__(self) -> int:
        return len(self.masks)

    @classmethod
    def all(cls, space: Space) -> "Keep":
        """Everything stays."""
        return cls({g.name: torch.ones(g.shape, dtype=torch.bool) for g in space})

    @property
    def counts(self) -> dict[str, int]:
        """Units that stay, per group."""
        return {name: int(mask.sum()) for name, mask in self.masks.items()}

    @property
    def sparsity(self) -> float:
        """Share of all units that goes."""
        total = sum(m.numel() for m in self.masks.values())
        return 1 - sum(self.counts.values()) / total if total else 0.0

    @property
    def collapsed(self) -> list[str]:
        """Groups of which nothing stays."""
        return [name for name, stays in self.counts.items() if not stays and self.masks[name].numel()]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Keep):
            return NotImplemented
        return self.masks.keys() == other.masks.keys() and all(
            torch.equal(m.cpu(), other[n].cpu()) for n, m in self.masks.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: "Keep") -> "Keep":
        self._must_match(other)
        return Keep({name: mask & other[name].to(mask.device) for name, mask in self.masks.items()})

    def overlap(self, other: "Keep") -> float:
        """Intersection over union of the kept units, 0 to 1; two empty keeps overlap fully."""
        self._must_match(other)
        both = sum(int((m & other[n].to(m.device)).sum()) for n, m in self.masks.items())
        either = sum(int((m | other[n].to(m.device)).sum()) for n, m in self.masks.items())
        return both / either if either else 1.0

    def coarsened(self, refined: Space, space: Space) -> "Keep":
        """This keep of a refined space, told in the units of the space it was refined from."""
        masks: dict[str, Tensor] = {}
        for group in refined:
            if group.runtime:
                continue
            if group.parent is None or group.index is None:
                masks[group.name] = self.masks[group.name]
                continue
            mask = masks.setdefault(group.parent, torch.zeros(space[group.parent].shape, dtype=torch.bool))
            mask.view(-1)[group.index] = self.masks[group.name].flatten().to(mask.device)
        return Keep({g.name: masks.get(g.name, torch.zeros(g.shape, dtype=torch.bool)) for g in space})

    def _must_match(self, other: "Keep") -> None:
        shapes, others = ({n: tuple(m.shape) for n, m in k.masks.items()} for k in (self, other))
        if shapes != others:
            odd = sorted(n for n in shapes.keys() | others.keys() if shapes.get(n) != others.get(n))
            raise SubjectError(
                f"these keeps belong to different spaces: {shapes.get(odd[0])} against {others.get(odd[0])}",
                where=f"group {odd[0]!r}" + (f" and {len(odd) - 1} more" if len(odd) > 1 else ""),
                mend="compare keeps that the same structure found on the same architecture",
            )
