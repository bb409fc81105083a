r"""Binary quadratic problems of fixed cardinality: which of n units go, so many as now.

    min_x x^T Q x,     x in {0, 1}^n,  sum of x over each lane as it is

by trying all of them where they are few, else by simulated annealing: pairs of one that goes and one that stays change
places with probability min(1, exp(-beta * dE)), while beta rises.
"""

import math
from dataclasses import dataclass
from itertools import chain, combinations, product

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from secateur.core import RecipeError

_TINY = 1e-12


def energy(Q: Float[Tensor, "n n"], x: Bool[Tensor, "*many n"]) -> Float[Tensor, " *many"]:
    """x^T Q x of one x, or of many."""
    ones = x.to(Q.dtype)
    return ((ones @ Q) * ones).sum(-1)


@dataclass(frozen=True)
class Annealing:
    """How the temperature falls.

    Attributes:
        coolest, hottest: the inverse temperatures beta at the end and at the beginning.
        factor: beta grows by it after every so many
        sweeps: of as many proposals as there are variables.
        restarts: how often all is done, each time from the same start.
        exhaustive: problems with no more solutions than this are solved by trying all.
    """

    hottest: float = 0.001
    coolest: float = 100.0
    factor: float = 1.1
    sweeps: int = 1
    restarts: int = 1
    exhaustive: int = 2000

    def __post_init__(self) -> None:
        if not (0 < self.hottest <= self.coolest and self.factor > 1 and self.sweeps > 0 and self.restarts > 0):
            raise RecipeError(
                f"beta goes from {self.hottest} to {self.coolest} by {self.factor}, {self.sweeps} sweeps each, "
                f"{self.restarts} times",
                where="Annealing(...)",
                mend="hottest=0.001, coolest=100, factor=1.1, and 1 or more sweeps and restarts",
            )

    @property
    def betas(self) -> list[float]:
        """The inverse temperatures, one after another."""
        steps = math.ceil(math.log(self.coolest / self.hottest) / math.log(self.factor))
        return [self.hottest * self.factor**i for i in range(steps)] + [self.coolest]


def solved(
    Q: Float[Tensor, "n n"],
    x: Bool[Tensor, " n"],
    rng: Generator,
    lanes: Int[Tensor, " n"] | None = None,
    how: Annealing = Annealing(),
) -> Bool[Tensor, " n"]:
    """The best x that was found, no worse than the one given; as many ones in every lane.

    Args:
        Q: any square matrix; its scale does not matter.
        lanes: which lane each variable is in; None for one lane.
        rng: on the CPU.
    """
    Q = scaled(Q)
    lanes = torch.zeros(len(x), dtype=torch.long) if lanes is None else lanes
    if solutions(x, lanes) <= how.exhaustive:
        found = tried(Q, x, lanes)
    else:
        found = min((annealed(Q, x, lanes, rng, how) for _ in range(how.restarts)), key=lambda y: float(energy(Q, y)))
    return found if float(energy(Q, found)) < float(energy(Q, x)) else x.clone()


def scaled(Q: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Q over the mean size of what is not zero in it; what is next to nothing then, of either sign, is zero."""
    Q = Q.double()
    mean = Q.abs().sum() / (Q != 0).sum().clamp_min(1)
    Q = Q / mean.clamp_min(torch.finfo(torch.float64).tiny)
    return Q.masked_fill(Q.abs() <= _TINY, 0)


def solutions(x: Bool[Tensor, " n"], lanes: Int[Tensor, " n"]) -> int:
    """How many x have as many ones in every lane."""
    ways = 1
    for k in set(lanes.tolist()):
        ways *= math.comb(int((lanes == k).sum()), int(x[lanes == k].sum()))
    return ways


def tried(Q: Float[Tensor, "n n"], x: Bool[Tensor, " n"], lanes: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """The best of all x with as many ones in every lane."""
    ways = []
    for k in sorted(set(lanes.tolist())):
        mine = (lanes == k).nonzero().flatten().tolist()
        ways.append(list(combinations(mine, int(x[mine].sum()))))
    every = [list(chain(*one)) for one in product(*ways)]
    many = torch.zeros(len(every), len(x), dtype=torch.bool)
    many.scatter_(1, torch.tensor(every, dtype=torch.long).reshape(len(every), -1), True)
    return many[energy(Q, many).argmin()]


def annealed(
    Q: Float[Tensor, "n n"], x: Bool[Tensor, " n"], lanes: Int[Tensor, " n"], rng: Generator, how: Annealing
) -> Bool[Tensor, " n"]:
    """The best x at the end of any sweep."""
    pull = (Q + Q.T).fill_diagonal_(0)
    own = Q.diagonal()
    now = x.clone()
    field = (own + pull @ now.to(Q.dtype)).numpy()  # what each variable's being one adds, the others as they are
    rows, lane_of = pull.numpy(), lanes.tolist()
    ones = now.nonzero().flatten().tolist()
    zeros: dict[int, list[int]] = {lane: [] for lane in set(lane_of)}
    for place in (~now).nonzero().flatten().tolist():
        zeros[lane_of[place]].append(place)
    best, least, reached = now.clone(), 0.0, 0.0
    for beta in how.betas if ones else ():
        draws = torch.rand(how.sweeps * len(x), 3, generator=rng, dtype=torch.float64).tolist()
        for which, other, chance in draws:
            at = int(which * len(ones))
            i = ones[at]
            room = zeros[lane_of[i]]
            if not room:
                continue
            to = int(other * len(room))
            j = room[to]
            change = float(field[j] - field[i] - rows[i, j])
            if change <= 0 or chance < math.exp(-beta * change):
                ones[at], room[to] = j, i
                field += rows[j] - rows[i]
                reached += change
        if reached < least - _TINY:
            best, least = torch.zeros_like(x), reached
            best[ones] = True
    return best
