"""Scores of a model whose layers differ in precision are ranked by value, not by type."""

import torch

from secateur.core import boundary


def test_scores_of_two_precisions_are_ranked_together():
    rng = torch.Generator().manual_seed(0)
    single = torch.rand(70_000, generator=rng)
    double = torch.rand(70_000, generator=rng, dtype=torch.float64)
    value, ties = boundary([single, double], 30_000)
    assert (value, ties) == (float(torch.cat([single.double(), double]).kthvalue(30_000).values), 1)
