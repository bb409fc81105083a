"""What a solver of one layer starts from: its weights and the second moments of its inputs, column by column alike."""

import logging
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secateur.core import Group, InputGram, InputTokens, NumericsError, Stats
from secateur.core.second_moments import along_inputs

_log = logging.getLogger(__name__)


class Problem(NamedTuple):
    """One layer as a least-squares problem: W is to change, and tr(dW H dW^T) to stay small.

    Attributes:
        W: the weights; those of dead inputs are zero.
        H: 2 E[x x^T], not yet damped, in the order of the columns of W; 1 on the diagonal of dead inputs.
    """

    W: Float[Tensor, "out in"]
    H: Float[Tensor, "in in"]


def least_squares(group: Group, stats: Stats, moments: InputGram) -> Problem:
    """The problem of one group's layer, in the moments' own precision; the layer is not changed.

    Raises:
        NumericsError: a weight is not finite; names the group.
    """
    gram, tokens = stats[group, moments], int(stats[group, InputTokens()])
    W = group.weight.to(gram.dtype)
    if not bool(W.isfinite().all()):
        raise NumericsError(
            "weights are NaN or infinite", where=f"tensor {group.name!r}", mend="repair or reload the weights"
        )
    if tokens < len(gram):
        _log.warning("%s: rank-deficient Hessian: rank %d of %d at most", group.name, tokens, len(gram))
    assert group.site is not None
    order = group.site.unfold(along_inputs(group, torch.arange(len(gram), device=gram.device)))[0]
    H = 2 * (gram if bool((order.diff() == 1).all()) else gram[order][:, order])
    dead: Bool[Tensor, " in"] = H.diagonal() == 0
    H[dead, dead] = 1
    return Problem(W.masked_fill(dead, 0), H)


def say_damping(name: str, asked: float, used: float) -> None:
    """Warn where a layer took more damping than was asked for."""
    if used > asked:
        _log.warning("%s: singular Hessian, damped by %g instead of %g", name, used, asked)
