r"""Exact optimal brain surgery of one layer (Frantar & Alistarh, "Optimal Brain Compression", 2022, algorithm 1).

Row by row, with H = 2/N sum x x^T + d mean(diag H) I over the inputs that are left, the unit p goes for which

    1/2 w_p [H^-1]_pp^-1 w_p^T     is least;
    w -= w_p [H^-1]_pp^-1 [H^-1]_p,:,     H^-1 -= [H^-1]_:,p [H^-1]_pp^-1 [H^-1]_p,:

A unit is a weight, or a block of neighbouring ones; the rows of a block share their inputs, so their costs add up.

The inverse is never written out again. After t steps it is H^-1 - V^T V, where each step adds to V the row
[H^-1]_p,: / [H^-1]_pp^(1/2) as it was by then: a pivoted Cholesky factorisation. A step then reads t rows of V instead
of writing a matrix, and the memory of a row of weights is that of V.

Time O(out in gone^2), where all of `in` goes in a whole trace; memory O(batch in gone), with `batch` rows at a time.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secateur.core import Choice, Group, InputGram, InputTokens, Keep, RecipeError, Solve, Stats, TopK
from secateur.core.progress import report
from secateur.core.spd import damped_factor

from .inputs import least_squares, say_damping


class Trace(NamedTuple):
    """In which order the units of each row go: one trace serves every number of them.

    Attributes:
        order: which unit goes at each step.
        loss: what that step adds to the mean squared error of the outputs.
        weight: the weights after the last step.
    """

    order: Int[Tensor, "rows gone"]
    loss: Float[Tensor, "rows gone"]
    weight: Float[Tensor, "out in"]


def trace(
    W: Float[Tensor, "out in"],
    inverse: Float[Tensor, "in in"],
    steps: int,
    *,
    tile: tuple[int, int] = (1, 1),
    lane: tuple[int, int] | None = None,
    batch: int = 64,
    name: str = "",
) -> Trace:
    """The greedy order of every row of units, `steps` long.

    Args:
        W: the weights; not changed.
        inverse: H^-1, damped.
        tile: height and width of a unit.
        lane: `(units, most)`: of so many neighbouring units of a row no more than `most` go, as in N:M.
        batch: rows of units that are worked on at once.
        name: of the layer, for progress.
    """
    bands = W.to(inverse.dtype).reshape(-1, tile[0], W.shape[1])
    found = []
    for at in range(0, len(bands), batch):
        found.append(_traced(bands[at : at + batch], inverse, steps, tile[1], lane))
        report(f"obc {name}".rstrip(), min(at + batch, len(bands)), len(bands))
    order, loss, weight = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Trace(order, loss, weight.reshape(W.shape))


def _traced(w: Tensor, inverse: Tensor, steps: int, c: int, lane: tuple[int, int] | None) -> tuple[Tensor, ...]:
    """Algorithm 1 for a batch of rows of units, `w` being `[batch, height, in]` and `c` the width of a unit."""
    b, r, n = w.shape
    w, places = w.clone(), torch.arange(b, device=w.device)
    V = w.new_zeros(b, steps * c, n)
    blocks = inverse.reshape(n // c, c, n // c, c).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    D = blocks.expand(b, n // c, c, c).clone()  # of H^-1 as it is by now
    gone = torch.zeros(b, n // c, dtype=torch.bool, device=w.device)
    order, loss = torch.zeros(b, steps, dtype=torch.long, device=w.device), w.new_zeros(b, steps)
    for t in range(steps):
        costs = block_costs(w.reshape(b, r, n // c, c), D, gone)
        loss[:, t], p = costs.masked_fill_(gone if lane is None else gone | _full(gone, lane), torch.inf).min(1)
        order[:, t] = p
        columns = p[:, None] * c + torch.arange(c, device=w.device)
        past = V[:, : t * c]
        mine = past.gather(2, columns[:, None].expand(b, t * c, c))
        now = inverse[columns] - mine.mT @ past
        root = torch.linalg.cholesky(now.gather(2, columns[:, None].expand(b, c, c)))
        v = torch.linalg.solve_triangular(root, now, upper=False)
        v.masked_fill_(gone.repeat_interleave(c, 1)[:, None], 0)
        lost = torch.linalg.solve_triangular(root, w.gather(2, columns[:, None].expand(b, r, c)).mT, upper=False)
        w -= lost.mT @ v
        V[:, t * c : (t + 1) * c] = v
        tiles = v.reshape(b, c, n // c, c)
        D -= torch.einsum("bsui,bsuj->buij", tiles, tiles)
        gone[places, p] = True
        w.masked_fill_(gone.repeat_interleave(c, 1)[:, None], 0)
    return order, loss, w


def block_costs(w: Float[Tensor, "b r u c"], D: Float[Tensor, "b u c c"], gone: Tensor) -> Float[Tensor, "b u"]:
    """1/2 w_p [H^-1]_pp^-1 w_p^T of every unit, summed over its rows; of those that are gone, anything."""
    if D.shape[-1] == 1:
        return w.square().sum((1, 3)) / D.masked_fill(gone[:, :, None, None], 1).flatten(1) / 2
    eye = torch.eye(D.shape[-1], dtype=D.dtype, device=D.device)
    mine = w.permute(0, 2, 3, 1)
    costs: Tensor = (mine * torch.linalg.solve(torch.where(gone[:, :, None, None], eye, D), mine)).sum((2, 3)) / 2
    return costs


def _full(gone: Tensor, lane: tuple[int, int]) -> Tensor:
    """Units of lanes from which no more may go."""
    full: Tensor = gone.reshape(len(gone), -1, lane[0]).sum(2) >= lane[1]
    return full.repeat_interleave(lane[0], 1)


def merged(loss: Float[Tensor, "rows gone"], count: int) -> Int[Tensor, " rows"]:
    """How many steps of each row's trace are taken when, `count` times, the row goes on whose next step costs least.

    A step cheaper than the one before it is taken right after that, so the order is that of the running maximum.
    """
    running = loss.cummax(1).values.flatten()
    keep = TopK()(running, len(running) - count, torch.Generator())
    return (~keep).reshape(loss.shape).sum(1)


def cut_back(
    W: Float[Tensor, "out in"],
    inverse: Float[Tensor, "in in"],
    found: Trace,
    gone: Int[Tensor, " rows"],
    tile: tuple[int, int] = (1, 1),
) -> Float[Tensor, "out in"]:
    """The weights after the first `gone` steps of each row's trace, in closed form.

    w - w_P ([H^-1]_PP)^-1 [H^-1]_P,: is what removing the units of P one by one comes to.
    """
    new = W.to(inverse.dtype).reshape(len(gone), tile[0], -1).clone()
    for row, count in enumerate(gone.tolist()):
        units = found.order[row, :count].sort().values
        P = (units[:, None] * tile[1] + torch.arange(tile[1], device=units.device)).flatten()
        new[row] -= torch.linalg.solve(inverse[P][:, P], new[row][:, P].T).T @ inverse[P]
        new[row][:, P] = 0
    return new.reshape(W.shape)


@dataclass(frozen=True)
class OBC(Solve):
    """Weights, N:M patterns or blocks of each row removed one by one, all others of the row making each good.

    Where all weights of a matrix compete, every row is traced to its end and the traces are merged by what each step
    costs; where rows or patterns lose equal counts, traces end there.

    Attributes:
        damping: added to the diagonal of the second moments, as a share of its mean; ten times as much where they are
            singular, three times over, and then that is said.
        memory_mib: how much memory the traces of the rows that are worked on at once may take; never less than one.
    """

    damping: float = 0.01
    memory_mib: int = 64

    def __post_init__(self) -> None:
        if not self.damping > 0 or self.memory_mib < 1:
            raise RecipeError(
                f"damping is {self.damping} and memory_mib {self.memory_mib}",
                where="OBC(damping, memory_mib)",
                mend="damping=0.01, memory_mib=64",
            )

    @property
    def needs(self) -> tuple[InputGram | InputTokens, ...]:
        return (InputGram(), InputTokens())

    def __call__(self, group: Group, stats: Stats, count: int) -> Choice:
        site = group.site
        rows, units = group.shape if site is not None else (0, 0)
        if site is None or (group.lanes not in (1, rows) and units % group.lane):
            raise RecipeError(
                "OBC prunes weights, N:M patterns and blocks, whose lanes are rows or lie in rows",
                where=f"group {group.name!r}",
                mend='structure="weights", "2:4" or "1x4"',
            )
        W, H = least_squares(group, stats, InputGram())
        U, used = damped_factor(H, self.damping, group.name)
        say_damping(group.name, self.damping, used)
        inverse = U.T @ U
        everything = group.lanes == 1
        lane = None if everything else (group.lane, group.lane - count)
        steps = units if everything else units // group.lane * (group.lane - count)
        batch = max(1, self.memory_mib * 2**20 // (max(steps, 1) * site.tile[1] * W.shape[1] * W.element_size()))
        found = trace(W, inverse, steps, tile=site.tile, lane=lane, batch=batch, name=group.name)
        gone = merged(found.loss, group.size - count) if everything else torch.full((rows,), steps, device=W.device)
        weight = cut_back(W, inverse, found, gone, site.tile) if everything else found.weight
        taken = torch.arange(steps, device=W.device) < gone[:, None]
        keep = torch.ones(group.shape, dtype=torch.bool, device=W.device)
        keep.scatter_(1, found.order, ~taken)
        return Choice(Keep({group.name: keep}), {group.name: site.fold(weight).to(site.tensor.dtype)})
