r"""SparseGPT: columns go one by one, and those still to come take over (Frantar & Alistarh, 2023, algorithm 1).

    H = 2/N sum x x^T + d mean(diag H) I,     U = upper Cholesky factor of H^-1
    score_ij = W_ij^2 / U_jj^2,     W[:, j:] -= ((W_j - masked W_j) / U_jj) U[j, j:]

Scores are compared in blocks of 128 columns, over all rows of the block; in N:M patterns within each M columns, on the
weights as they are by then. Updates beyond the block are made once for the whole block.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secateur.core import (
    Choice,
    Group,
    InputGram,
    InputTokens,
    Keep,
    RecipeError,
    Solve,
    Stats,
    TopK,
    count,
)
from secateur.core.spd import damped_factor

from .inputs import least_squares, say_damping

_STRIP = 32


class Solved(NamedTuple):
    """What stays, the new weights, and half the squared error of the outputs that was made."""

    keep: Bool[Tensor, "out in"]
    weight: Float[Tensor, "out in"]
    loss: float


def sparsegpt(
    W: Float[Tensor, "out in"],
    U: Float[Tensor, "in in"],
    stays: int,
    *,
    lanes: int = 1,
    pattern: bool = False,
    block: int = 128,
) -> Solved:
    """Algorithm 1 for one matrix.

    Args:
        W: the weights; not changed.
        U: the upper Cholesky factor of the inverse of the damped second moments.
        stays: weights that stay in each lane.
        lanes: 1 where all weights of a block of columns compete, the number of rows where those of a row do.
        pattern: whether lanes are groups of consecutive inputs, as in N:M.
        block: columns whose scores are compared at once.
    """
    rows, columns = W.shape
    width = W.numel() // lanes
    turned, kept = W.T.to(U.dtype, copy=True).contiguous(), torch.ones(columns, rows, dtype=torch.bool, device=W.device)
    loss = 0.0
    for start in range(0, columns, block):
        end = min(start + block, columns)
        part, keep, root = turned[start:end], kept[start:end], U[start:end, start:end]
        if not pattern:
            past = [_upto(width - stays, width, rows * c // lanes, columns * rows // lanes) for c in (start, end)]
            keep.copy_(_chosen(part, root, past[1] - past[0], lanes))
        errors = _columns_(part, keep, root, stays if pattern else None, width)
        turned[end:].addmm_(U[start:end, end:].T, errors, alpha=-1)
        part.masked_fill_(~keep, 0)
        loss += float(errors.square().sum()) / 2
    return Solved(kept.T.contiguous(), turned.T.contiguous(), loss)


def _upto(gone: int, width: int, reached: int, whole: int) -> int:
    """How many of the first `reached` weights of a lane go: the same share everywhere, exact at the end."""
    return gone if reached == whole else count(gone / width, reached)


def _chosen(part: Tensor, root: Tensor, drop: int, lanes: int) -> Tensor:
    """What stays of a block `[columns, rows]` by the scores before it is touched."""
    scores = (part / root.diagonal()[:, None]).square_().T
    flat = scores.reshape(1 if lanes == 1 else lanes, -1)
    return TopK()(flat, flat.shape[1] - drop, torch.Generator()).reshape(scores.shape).T


def _columns_(part: Tensor, keep: Tensor, root: Tensor, n: int | None, m: int) -> Tensor:
    """Column after column of a block; what each still to come has to make up for is added to it, in place."""
    errors, diagonal = torch.empty_like(part), root.diagonal()
    for strip in range(0, len(part), _STRIP):
        last = min(strip + _STRIP, len(part))
        for i in range(strip, last):
            if n is not None and i % m == 0:
                scores = (part[i : i + m] / diagonal[i : i + m, None]).square_()
                least = scores.argsort(stable=True, dim=0)[: m - n]
                keep[i : i + m].scatter_(0, least, False)
            torch.mul(part[i], ~keep[i] / diagonal[i], out=errors[i])
            reach = last if n is None else min(max(last, (i // m + 1) * m), len(part))
            part[i + 1 : reach].addr_(root[i, i + 1 : reach], errors[i], alpha=-1)
        part[last:].addmm_(root[strip:last, last:].T, errors[strip:last], alpha=-1)
    return errors


@dataclass(frozen=True)
class SparseGPT(Solve):
    """Weights or N:M patterns chosen column by column, each making good what those before it lost.

    Attributes:
        block: columns whose scores are compared at once.
        damping: added to the diagonal of the second moments, as a share of its mean; ten times as much where they are
            singular, three times over, and then that is said.
    """

    block: int = 128
    damping: float = 0.01

    def __post_init__(self) -> None:
        if self.block < 1 or not self.damping > 0:
            raise RecipeError(
                f"block is {self.block} and damping {self.damping}",
                where="SparseGPT(block, damping)",
                mend="block=128, damping=0.01",
            )

    @property
    def needs(self) -> tuple[InputGram | InputTokens, ...]:
        return (InputGram(precise=False), InputTokens())

    def __call__(self, group: Group, stats: Stats, count: int) -> Choice:
        site = group.site
        if site is None or site.tile != (1, 1):
            raise RecipeError(
                "SparseGPT prunes single weights and N:M patterns",
                where=f"group {group.name!r}",
                mend='structure="weights" or "2:4"',
            )
        pattern = group.exact is not None
        if pattern and self.block % group.lane:
            raise RecipeError(
                f"a block of {self.block} columns is cut within groups of {group.lane}",
                where="SparseGPT(block=...)",
                mend=f"block={max(self.block // group.lane, 1) * group.lane}",
            )
        W, H = least_squares(group, stats, InputGram(precise=False))
        U, used = damped_factor(H, self.damping, group.name)
        say_damping(group.name, self.damping, used)
        solved = sparsegpt(W, U, count, lanes=group.lanes, pattern=pattern, block=self.block)
        return Choice(Keep({group.name: solved.keep}), {group.name: site.fold(solved.weight).to(site.tensor.dtype)})
