"""Attention and rotary positions, which recent opsets have as operators."""

from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.core import SubjectError

from .table import operator


@operator("Attention", since=23)
def attention(
    at: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Any:
    """softmax(q k^T scale + mask) v, with heads as a dimension of their own or within the last one."""
    if at.get("left_window_size", -1) >= 0 or at.get("right_window_size", -1) >= 0:
        raise SubjectError(
            "an attention in a window is not supported", where=f"node {at.title}", mend="export it as plain operators"
        )
    flat = query.dim() == 3
    if flat:
        query = _apart(query, at.q_num_heads)
        key, value = (_apart(t, at.kv_num_heads) for t in (key, value))
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    scale = at.get("scale") or 1 / sqrt(query.shape[-1])
    many = query.shape[1] != key.shape[1]
    plain = not at.get("softcap", 0.0) and at.wanted <= 3 and lengths is None and past_key is None
    if plain and not (at.get("is_causal", 0) and (mask is not None or query.shape[2] != key.shape[2])):
        if mask is not None and mask.shape[-1] < key.shape[2]:
            mask = F.pad(
                mask, [0, key.shape[2] - mask.shape[-1]], value=False if mask.dtype == torch.bool else float("-inf")
            )
        causal = bool(at.get("is_causal", 0))
        made = F.scaled_dot_product_attention(query, key, value, mask, 0.0, causal, scale=scale, enable_gqa=many)
        scores = None
    else:
        made, scores = _by_steps(at, query, key, value, mask, past_key, lengths, scale)
    made = made.transpose(1, 2).flatten(2) if flat else made
    outs = (made, key, value, scores)[: at.wanted]
    return outs if at.wanted > 1 else made


def _apart(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def _by_steps(
    at: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    past: Tensor | None,
    lengths: Tensor | None,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """With everything that the operator can give back on the way: `qk_matmul_output_mode` says what."""
    each = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(each, 1) for t in (key, value)) if each > 1 else (key, value)
    root = sqrt(scale)
    scores = torch.matmul(query * root, key.transpose(-1, -2) * root)
    rows, columns = scores.shape[-2:]
    stages = [scores]  # as it was, with the cap, with the bias, as shares
    bias: Tensor | None = None
    if mask is not None:
        if mask.shape[-1] < columns:
            fill = False if mask.dtype == torch.bool else float("-inf")
            mask = F.pad(mask, [0, columns - mask.shape[-1]], value=fill)
        bias = (
            torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, float("-inf"))
            if mask.dtype == torch.bool
            else mask
        )
    places = torch.arange(columns, device=scores.device)
    if at.get("is_causal", 0):
        begin = 0 if past is None else past.shape[2]
        first = begin + torch.arange(rows, device=scores.device).unsqueeze(1)
        if lengths is not None:
            first = first + (lengths.reshape(-1, 1, 1, 1) - rows)
        later = torch.zeros_like(scores).masked_fill(places > first, float("-inf"))
        bias = later if bias is None else bias + later
    if lengths is not None:
        beyond = (places >= lengths.reshape(-1, 1, 1, 1)).expand(scores.shape)
        padding = torch.zeros_like(scores).masked_fill(beyond, float("-inf"))
        bias = padding if bias is None else bias + padding
    cap = at.get("softcap", 0.0)
    if cap:
        scores = cap * torch.tanh(scores / cap)
    stages.append(scores)
    if bias is not None:
        scores = scores + bias
    stages.append(scores)
    shares = torch.softmax(scores.float() if scores.dtype != torch.float64 else scores, -1).to(query.dtype)
    shares = shares.nan_to_num(0.0) if bias is not None else shares
    stages.append(shares)
    return torch.matmul(shares, value), stages[at.get("qk_matmul_output_mode", 0)]


@operator("RotaryEmbedding", since=23)
def rotary(at: Any, x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None = None) -> Tensor:
    """Pairs of features turned by angles of their position."""
    flat = x.dim() == 3
    x = x.reshape(*x.shape[:2], at.num_heads, -1) if flat else x.transpose(1, 2)  # [batch, time, heads, features]
    size = at.get("rotary_embedding_dim", 0) or x.shape[-1]
    turned, rest = x[..., :size], x[..., size:]
    if positions is not None:
        cos, sin = (F.embedding(positions, table) for table in (cos, sin))
    cos, sin = (t[..., : size // 2].unsqueeze(2) for t in (cos, sin))
    if at.get("interleaved", 0):
        a, b = turned[..., 0::2], turned[..., 1::2]
        made = torch.stack([cos * a - sin * b, sin * a + cos * b], -1).flatten(-2)
    else:
        a, b = turned.chunk(2, -1)
        made = torch.cat([cos * a - sin * b, sin * a + cos * b], -1)
    made = torch.cat([made, rest], -1) if size < x.shape[-1] else made
    return made.flatten(2) if flat else made.transpose(1, 2)
