"""Families that share one size attribute must lose as many units each, so they stay."""

import torch
from torch import nn

import secateur as sc


class Attention(nn.Module):
    """One attribute says how wide a head is, for queries, keys and values alike; the number of heads follows."""

    def __init__(self):
        super().__init__()
        self.size = 8
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).view(*x.shape[:2], -1, self.size).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.o(y.transpose(1, 2).flatten(2))


def test_head_dimensions_that_share_a_size_are_not_offered_and_heads_are():
    torch.manual_seed(0)
    space = sc.structures.Channels().find(Attention().eval(), torch.randn(2, 5, 16))
    assert {g.kind for g in space} == {"heads"}
