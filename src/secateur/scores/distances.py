"""How far apart two outputs are: pure functions of logits, classes last; one number for each row, or each sample."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "... classes"]


def kl(whole: Rows, without: Rows) -> Float[Tensor, "..."]:
    """KL(P||Q) = sum_c P (log P - log Q), P of the whole model."""
    p, q = whole.log_softmax(-1), without.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def _mixed(whole: Rows, without: Rows) -> tuple[Tensor, Tensor, Tensor]:
    p, q = whole.log_softmax(-1), without.log_softmax(-1)
    return p, q, torch.logaddexp(p, q) - math.log(2)


def js(whole: Rows, without: Rows) -> Float[Tensor, "..."]:
    """(KL(P||M) + KL(Q||M)) / 2 with M = (P + Q) / 2; between 0 and log 2."""
    p, q, m = _mixed(whole, without)
    return ((p.exp() * (p - m)).sum(-1) + (q.exp() * (q - m)).sum(-1)) / 2


def js_released(whole: Rows, without: Rows) -> Float[Tensor, "..."]:
    """(KL(M||P) + KL(M||Q)) / 2, mean over classes: as in FinerCut's released code, whose arguments are reversed."""
    p, q, m = _mixed(whole, without)
    return (m.exp() * (m - (p + q) / 2)).mean(-1)


def angular(whole: Rows, without: Rows) -> Float[Tensor, "..."]:
    """arccos of the cosine of the two rows of logits, which is clamped to [0, 1]."""
    return torch.cosine_similarity(whole.double(), without.double(), dim=-1).clamp(0, 1).acos()


def norm(
    whole: Float[Tensor, "samples rows classes"], without: Float[Tensor, "samples rows classes"]
) -> Float[Tensor, " samples"]:
    """The Frobenius norm of the difference of the logits of each sample."""
    found: Tensor = torch.linalg.matrix_norm(whole - without)
    return found
