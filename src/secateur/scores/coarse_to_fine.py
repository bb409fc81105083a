r"""The fine score of CFSP (Wang et al., COLING 2025): activations, and weights relative to those of rivals.

    S_j = n_j^c mean_i [ r(|W_down,ij| n_j^b) + r(|W_up,ji|) + r(|W_gate,ji|) ],      r(A_ij) = A_ij / sum_j A_ij

n_j is the norm of the neuron over a sequence, i an output or input of the block. The released code divides by the sum
over i instead, after which the mean over i is 1/D whatever the weights are, and S_j = 3/D n_j^c.
"""

import logging
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import Group, InputNorm, Member, RecipeError, Score, Stats
from secateur.core.folding import makers
from secateur.core.second_moments import as_matrix, reads, width_of

_log = logging.getLogger(__name__)

Within = Literal["neurons", "dimensions"]


def relative_mean(A: Float[Tensor, "dims neurons"], within: Within = "neurons") -> Float[Tensor, " neurons"]:
    """mean_i of A_ij / sum_j A_ij, or of A_ij / sum_i A_ij ("dimensions", as released); 0 / 0 is 0."""
    total = A.sum(1 if within == "neurons" else 0, keepdim=True)
    return (A / total.clamp_min(torch.finfo(A.dtype).tiny)).mean(0)


@dataclass(frozen=True)
class CoarseToFine(Score):
    """The fine score of CFSP for neurons: of the layer that reads them, and of those that make them, one or two.

    Attributes:
        b, c: exponents of the activation's norm, in the weights of the reader and of the whole.
        compat: "release" normalises over the dimensions i as the released code does, so that weights do not matter.

    Raises:
        RecipeError: no layer that was seen reads the units.
    """

    b: float = 1.0
    c: float = 1.0
    compat: Literal["none", "release"] = "none"

    knows_coupled = True

    @property
    def needs(self) -> tuple[InputNorm, ...]:
        return (InputNorm(),)

    def __call__(self, group: Group, stats: Stats) -> Tensor:
        readers = [m for m in group.members if reads(m, stats, InputNorm())]
        if not readers:
            raise RecipeError(
                "no Linear or convolution that was seen reads it, so its activation is not known",
                where=f"group {group.name!r}",
                mend=f"exclude=[{group.name!r}]",
            )
        within: Within = "dimensions" if self.compat == "release" else "neurons"
        norm = torch.stack([_norm(m, stats) for m in readers]).mean(0)
        parts = [relative_mean(A * norm**self.b, within) for m in readers for A in _read(m)]
        made = [relative_mean(A, within) for m in makers(group) for A in _made(m)]
        if len(made) < 2:
            _log.info("%s has no gate: the score is that of two matrices", group.name)
        return torch.stack([p.to(norm.device) for p in (*parts, *made)]).sum(0) * norm**self.c


def _norm(m: Member, stats: Stats) -> Float[Tensor, " neurons"]:
    """The norm of each unit as one reader sees it, over all its columns."""
    squares = stats[m.group, InputNorm()]
    return squares.reshape(-1, width_of(m))[m.index.to(squares.device)].flatten(1).sum(1).sqrt()


def _read(m: Member) -> list[Float[Tensor, "dims neurons"]]:
    """|W| of a reader with units as columns, one matrix for each of a unit's columns."""
    width = width_of(m)
    W = as_matrix(m.group, width).abs()
    columns = (m.index[:, :, None] * width + torch.arange(width)).flatten(1).to(W.device)
    return [W[:, mine] for mine in columns.T]


def _made(m: Member) -> list[Float[Tensor, "dims neurons"]]:
    """|W|^T of a maker, one matrix for each of a unit's rows: a fused gate and up give two."""
    rows = m.site.tiles(m.tensor.detach()).double().abs()
    return [rows[mine].T for mine in m.index.to(rows.device).T]
