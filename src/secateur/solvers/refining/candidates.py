"""Which units of a layer may change places next: gone ones worth having back, and kept ones that are worth little."""

from collections import deque
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from secateur.core import RecipeError


@dataclass
class Candidates:
    """The units of one layer, and who took part lately.

    Attributes:
        gone: which are pruned at present.
        free: which may change at all.
        lane: units of a lane, within which alone places are changed; all of the layer where there are none.
        most: the longest that the list of those may get who took part lately, as a share of the free ones.
    """

    name: str
    gone: Bool[Tensor, " units"]
    free: Bool[Tensor, " units"]
    lane: int
    most: float = 0.0
    recent: deque[int] = field(default_factory=deque)

    @property
    def lanes(self) -> Int[Tensor, " units"]:
        """The lane of each unit."""
        return torch.arange(len(self.gone)) // self.lane

    def of_each_lane(self, gone: Bool[Tensor, " units"]) -> Int[Tensor, " lanes"]:
        """How many units of each lane these are."""
        return gone.reshape(-1, self.lane).sum(1)

    def fix(self, scores: Float[Tensor, " units"], gone: float, kept: float) -> None:
        """From now on this share of the pruned, the lowest scores, and of the kept, the highest, stay what they are."""
        for mine, share, sign in ((self.gone, gone, 1), (~self.gone, kept, -1)):
            there = (mine & self.free).nonzero().flatten()
            order = (sign * scores[there]).argsort(stable=True)
            self.free[there[order[: int(share * len(there))]]] = False

    def block(self, scores: Float[Tensor, " units"], size: int, pruned: int | None) -> Int[Tensor, " block"]:
        """`size` units, `pruned` of them gone at present (half, where that is None), or fewer where there are fewer.

        Args:
            scores: gone units of the highest and kept ones of the lowest are taken.

        Raises:
            RecipeError: more pruned units are asked for than there are.
        """
        if pruned is not None and pruned > int(self.gone.sum()):
            raise RecipeError(
                f"{pruned} pruned units are to be in each block, and {int(self.gone.sum())} are pruned",
                where=f"group {self.name!r}",
                mend="pruned=None, a higher sparsity, or exclude=[...]",
            )
        may = self._allowed(size)
        if self.lane < len(self.gone):
            return self._of_lanes(scores, size // self.lane, may)
        count = size // 2 if pruned is None else pruned
        back, away = (may & self.gone).nonzero().flatten(), (may & ~self.gone).nonzero().flatten()
        back = back[scores[back].argsort(descending=True, stable=True)[:count]]
        away = away[scores[away].argsort(stable=True)[: size - count]]
        return torch.cat((back, away)) if len(back) and len(away) else back[:0]

    def remember(self, block: Int[Tensor, " block"]) -> None:
        """These took part."""
        self.recent.extend(block.tolist())
        longest = int(self.most * int(self.free.sum()))
        while len(self.recent) > longest:
            self.recent.popleft()

    def _allowed(self, size: int) -> Tensor:
        """The free ones that did not take part lately, or all free ones where those are too few."""
        may = self.free.clone()
        may[torch.tensor(list(self.recent), dtype=torch.long)] = False
        both = (may & self.gone).any() and (may & ~self.gone).any()
        return may if both and int(may.sum()) >= size else self.free

    def _of_lanes(self, scores: Tensor, count: int, may: Tensor) -> Shaped[Tensor, " block"]:
        """All that may change of the lanes in which the best gone one is furthest above the worst kept one."""
        best = scores.masked_fill(~(may & self.gone), -torch.inf).reshape(-1, self.lane).amax(1)
        worst = scores.masked_fill(~(may & ~self.gone), torch.inf).reshape(-1, self.lane).amin(1)
        gain = best - worst
        order = gain.argsort(descending=True, stable=True)[: max(count, 1)]
        chosen = torch.zeros(len(gain), dtype=torch.bool)
        chosen[order[gain[order] > -torch.inf]] = True
        return (chosen.repeat_interleave(self.lane) & may).nonzero().flatten()
