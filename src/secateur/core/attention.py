"""`nn.MultiheadAttention` with fewer heads, or with another width outside than inside."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function


class CutAttention(nn.MultiheadAttention):
    """What `nn.MultiheadAttention` becomes when it is cut: same tensors, same arguments, its head dimension as it was.

    torch's own forward function insists that heads x head dimension is the width outside.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`."""
        batched = query.dim() == 3
        swap = self.batch_first and batched
        if swap:
            moved = {id(t): t for t in (query, key, value)}  # what is one tensor stays one, as in torch's own
            moved = {number: t.transpose(1, 0) for number, t in moved.items()}
            query, key, value = (moved[id(t)] for t in (query, key, value))
        separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        output, weights = cut_attention(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            q_proj_weight=separate[0],
            k_proj_weight=separate[1],
            v_proj_weight=separate[2],
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            head_dim=self.head_dim,
        )
        return (output.transpose(1, 0) if swap else output), weights


def cut_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """`F.multi_head_attention_forward` for `[length, batch, width]`, whose inner width is heads x head dimension."""
    taken = (query, key, value)
    if has_torch_function(taken):
        inner = (embed_dim, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn, dropout)
        outer = (out_proj_weight, out_proj_bias)
        found: tuple[Tensor, Tensor | None]
        found = handle_torch_function(cut_attention, taken, *taken, *inner, *outer, **options)  # type: ignore[arg-type]
        return found
    batched = query.dim() == 3
    q, k, v = (t if batched else t.unsqueeze(1) for t in taken)
    head_dim = options["head_dim"]
    weights = (
        in_proj_weight.chunk(3)
        if in_proj_weight is not None
        else [options[n] for n in ("q_proj_weight", "k_proj_weight", "v_proj_weight")]
    )
    biases = in_proj_bias.chunk(3) if in_proj_bias is not None else (None, None, None)
    made = [F.linear(x, w, b) for x, w, b in zip((q, k, v), weights, biases, strict=True)]
    made[1:] = [_longer(x, extra, add_zero_attn) for x, extra in zip(made[1:], (bias_k, bias_v), strict=True)]
    heads = [x.reshape(*x.shape[:-1], num_heads, head_dim).permute(1, 2, 0, 3) for x in made]
    scores = heads[0] @ heads[1].transpose(-1, -2) * head_dim**-0.5
    scores = scores + _mask(options, scores[..., : len(k)], num_heads, len(made[1]) - len(k))
    shares = scores.softmax(-1)
    mixed = F.dropout(shares, dropout, options["training"]) @ heads[2]
    output = F.linear(mixed.permute(2, 0, 1, 3).flatten(-2), out_proj_weight, out_proj_bias)
    if options["need_weights"] and options["average_attn_weights"]:
        shares = shares.mean(1)
    given = (shares if batched else shares.squeeze(0)) if options["need_weights"] else None
    return (output if batched else output.squeeze(1)), given


def _longer(made: Tensor, extra: Tensor | None, zero: bool) -> Tensor:
    """Keys or values `[length, batch, width]`, with a learnt one and one of zeros after them."""
    more = [] if extra is None else [extra.expand(1, made.shape[1], -1)]
    return torch.cat([made, *more, *([torch.zeros_like(made[:1])] if zero else [])])


def _mask(options: dict[str, Any], scores: Tensor, num_heads: int, extra: int) -> Tensor:
    """What is added to the scores `[batch, heads, queries, keys]`, and nothing for so many keys after them."""
    total = torch.zeros((), dtype=scores.dtype, device=scores.device)
    mask, padding = options["attn_mask"], options["key_padding_mask"]
    if mask is not None:
        if mask.dim() == 3:
            mask = mask.reshape(-1, num_heads, *mask.shape[1:])
        total = total + _added(mask, scores)
    if padding is not None:
        padding = padding if padding.dim() == 2 else padding.unsqueeze(0)
        total = total + _added(padding[:, None, None, :], scores)
    return F.pad(total, (0, extra)) if extra and total.dim() else total


def _added(mask: Tensor, scores: Tensor) -> Tensor:
    """True in a boolean mask keeps positions out."""
    if mask.dtype != torch.bool:
        return mask.to(scores.dtype)
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(mask, float("-inf"))
