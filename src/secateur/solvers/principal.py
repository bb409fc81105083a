r"""The directions in which a stream has most energy (Ashkboos et al., "SliceGPT", ICLR 2024, section 3.3).

    C = sum_t x_t x_t^T,     C + damping mean(diag C) I = Q diag(l) Q^T,   l descending

The first k columns of Q stay. C is the raw second moment: no mean is removed. All of it is float64.
"""

import logging
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from secateur.core import (
    Choice,
    Group,
    InputGram,
    InputTokens,
    Keep,
    NumericsError,
    RecipeError,
    Solve,
    Stats,
)

_log = logging.getLogger(__name__)


def principal_axes(C: Float[Tensor, "n n"], damping: float) -> Float[Tensor, "n n"]:
    """Eigenvectors as columns, of descending eigenvalues, in float64; each with its largest entry positive."""
    C = C.double()
    C = C + damping * C.diagonal().mean() * torch.eye(len(C), dtype=C.dtype, device=C.device)
    Q: Tensor = torch.linalg.eigh(C).eigenvectors.flip(1)
    largest = Q.gather(0, Q.abs().argmax(0, keepdim=True))
    return Q * largest.sign()


def random_rotation(n: int, rng: torch.Generator) -> Float[Tensor, "n n"]:
    """An orthogonal matrix, drawn evenly from all of them; float64."""
    Q, R = torch.linalg.qr(torch.randn(n, n, generator=rng, dtype=torch.float64))
    turned: Tensor = Q * R.diagonal().sign()
    return turned


@dataclass(frozen=True)
class PrincipalAxes(Solve):
    """Which directions stay, and the rotation to them.

    Attributes:
        damping: share of the mean energy that is added to all directions.
        orientation: "pca" keeps the directions in the order of their energy; "random" rotates those that stay among
            themselves, which changes nothing but spreads values evenly.

    Raises:
        RecipeError: negative damping, or another orientation.
    """

    damping: float = 0.01
    orientation: Literal["random", "pca"] = "random"

    def __post_init__(self) -> None:
        if self.damping < 0 or self.orientation not in ("random", "pca"):
            raise RecipeError(
                f"damping is {self.damping}, orientation {self.orientation!r}",
                where="PrincipalAxes(...)",
                mend='damping is 0 or more, orientation "random" or "pca"',
            )

    @property
    def needs(self) -> tuple[InputGram, InputTokens]:
        return (InputGram(), InputTokens())

    def __call__(self, group: Group, stats: Stats, count: int) -> Choice:
        C, tokens = stats[group, InputGram()], int(stats[group, InputTokens()])
        if not torch.isfinite(C).all():
            raise NumericsError(
                "the stream is not finite", where=group.name, mend="check data and weights, or run it in float32"
            )
        if tokens < group.size:
            _log.warning("%s was given %d tokens for %d directions: give more", group.name, tokens, group.size)
        axes = principal_axes(C, self.damping)
        if self.orientation == "random":
            turn = random_rotation(count, stats.rng(group, "orientation")).to(axes.device)
            axes[:, :count] = axes[:, :count] @ turn
        keep = torch.arange(group.size) < count
        return Choice(Keep({group.name: keep.reshape(group.shape)}), {group.name: axes.T})
