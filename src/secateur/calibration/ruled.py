"""Operations whose backward pass is a rule of relevance instead of a derivative."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .rules import proportional, softmax_rule, stable

Back = Callable[[Tensor], tuple[Tensor | None, ...]]


class _Ruled(torch.autograd.Function):
    """A value that is there already, with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, back: Back, *inputs: Tensor) -> Tensor:  # noqa: ARG004
        ctx.back = back
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        return None, None, *ctx.back(relevance[0])


def ruled(out: Tensor, back: Back, *inputs: Tensor) -> Tensor:
    """`out` as it is; relevance that reaches it goes to the inputs as `back` says."""
    found: Tensor = _Ruled.apply(out.detach(), back, *inputs)  # type: ignore[no-untyped-call]
    return found


def passed_on(operation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Activations and norms that no layer takes in: what comes back goes on as it is."""
    with torch.no_grad():
        out = operation(x.detach().clone())
    return ruled(out, lambda r: (r,), x)


def averaged(operation: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Means, sums and pools of averages: in proportion to what each input gave."""
    held = x.detach()
    with torch.no_grad():
        out = operation(held)
    return ruled(out, lambda r: (proportional(operation, held, r),), x)


def added(a: Any, b: Any, sign: float = 1.0) -> Tensor:
    """a + sign b: in proportion to the summands; a number takes its part with it."""
    terms = [(a, 1.0), (b, sign)]
    tensors = [(t, factor) for t, factor in terms if isinstance(t, Tensor)]
    with torch.no_grad():
        out: Tensor = a + sign * b

    def back(r: Tensor) -> tuple[Tensor | None, ...]:
        s = r / stable(out)
        return tuple((factor * t.detach() * s).sum_to_size(t.shape) for t, factor in tensors)

    return ruled(out, back, *(t for t, _ in tensors))


def multiplied(operation: Callable[[Any, Any], Tensor], a: Any, b: Any) -> Tensor:
    """A product or a quotient: what carries relevance gets it, half each where both do."""
    with torch.no_grad():
        out = operation(*(t.detach() if isinstance(t, Tensor) else t for t in (a, b)))
    carriers = [t for t in (a, b) if isinstance(t, Tensor) and t.requires_grad and not _is_weight(t)]
    return ruled(out, lambda r: tuple((r / len(carriers)).sum_to_size(t.shape) for t in carriers), *carriers)


def contracted(a: Tensor, b: Tensor) -> Tensor:
    """A matrix product of two activations: half of the relevance for each (AttnLRP, Achtibat et al., 2024)."""
    left, right = a.detach(), b.detach()
    with torch.no_grad():
        out = left @ right

    def back(r: Tensor) -> tuple[Tensor | None, ...]:
        half = r / 2
        return proportional(lambda v: v @ right, left, half), proportional(lambda v: left @ v, right, half)

    return ruled(out, back, a, b)


def softmaxed(x: Tensor, dim: int) -> Tensor:
    """A softmax, by the rule of AttnLRP."""
    held = x.detach()
    p = held.softmax(dim)
    return ruled(p, lambda r: (softmax_rule(held, p, r, dim),), x)


def attended(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Scaled dot-product attention, as the products and the softmax that it is made of."""
    scores = contracted(q * (scale if scale is not None else q.shape[-1] ** -0.5), k.transpose(-2, -1))
    hidden = torch.zeros((), dtype=q.dtype, device=q.device)
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        mask = seen if mask is None else mask & seen
    if mask is not None:
        hidden = (
            torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask
        )
    masked = ruled((scores + hidden).detach(), lambda r: (r,), scores)
    return contracted(softmaxed(masked, -1), v)


def _is_weight(tensor: Tensor) -> bool:
    return isinstance(tensor, torch.nn.Parameter)
