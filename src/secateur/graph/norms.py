"""Norms over the last dimension, known by what they compute and not by their class."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

_EPS = (torch.finfo(torch.float32).eps, 0.0)


@dataclass(frozen=True, eq=False)
class NormForm:
    """scale * (x - mean x if centred) / sqrt(mean of its squares + eps) + shift.

    Attributes:
        scale: as it is multiplied with, 1 + g where the norm keeps g; float64.
        shift: None where there is none.
    """

    centred: bool
    eps: float
    scale: Float[Tensor, " width"]
    shift: Float[Tensor, " width"] | None

    def __call__(self, x: Tensor) -> Tensor:
        """What the norm gives."""
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.scale.to(x)
        return y if self.shift is None else y + self.shift.to(x)


@torch.no_grad()
def norm_form(module: nn.Module, width: int) -> NormForm | None:
    """What a module computes, where that is a norm of vectors of that width; None for anything else.

    It is run on random vectors of two sizes, of which the smaller one shows eps. RMS norms and layer norms are known,
    with weights g that are multiplied with as they are or as 1 + g.
    """
    vectors = [p.detach() for p in module.parameters(recurse=False)]
    if any(True for _ in module.children()) or len(vectors) > 2 or any(v.shape != (width,) for v in vectors):
        return None
    device = vectors[0].device if vectors else torch.device("cpu")
    dtype = vectors[0].dtype if vectors else torch.float32
    noise = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    x = torch.cat((noise + 0.3, 1e-2 * (noise + 0.3))).to(device, dtype)
    try:
        given = module(x[None])
    except (TypeError, ValueError, RuntimeError, IndexError):
        return None
    if not isinstance(given, Tensor) or given.shape != x[None].shape:
        return None
    g = vectors[0].double() if vectors else None
    shift = vectors[1].double() if len(vectors) == 2 else None
    ones = torch.ones(width, dtype=torch.float64, device=device)
    scales = [ones] if g is None else [g, 1 + g]
    numbers = [v for v in vars(module).values() if isinstance(v, float) and 0 <= v < 1e-1]
    tolerance = {torch.bfloat16: 3e-2, torch.float16: 4e-3}.get(dtype, 1e-4)
    for centred in (False, True):
        for scale in scales:
            for eps in (*dict.fromkeys(numbers), *_EPS):
                form = NormForm(centred, eps, scale, shift)
                if torch.allclose(form(x.double()), given[0].double(), rtol=tolerance, atol=tolerance):
                    return form
    return None
