"""Scales of batch norms as scores: which tensors count, and what stands in where there is none."""

import logging

import pytest
import torch
from torch import nn

from secateur.core import Group, Member, RecipeError, Site, Stats
from secateur.core.scales import lengths, norm_scales
from secateur.scores import NormScale
from secateur.structures import Channels

X = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(0))


def of(model, name, x=X):
    return Channels().find(model, x)[name]


def test_the_score_is_the_absolute_scale():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([-2.0, 0.5, 0.0]))
    assert NormScale()(of(model, "0"), Stats()).tolist() == [2.0, 0.5, 0.0]


def test_of_several_norms_in_a_row_of_depthwise_layers_the_mean_counts():
    model = nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, groups=3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1)
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([1.0, -2.0, 3.0]))
        model[3].weight.copy_(torch.tensor([-3.0, 4.0, 1.0]))
    assert NormScale()(of(model, "0"), Stats()).tolist() == [2.0, 3.0, 2.0]


def test_a_norm_after_a_concatenation_is_read_at_the_right_places():
    class Cat(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.norm, self.out = (
                nn.Conv2d(2, 3, 1),
                nn.Conv2d(2, 4, 1),
                nn.BatchNorm2d(7),
                nn.Conv2d(7, 2, 1),
            )

        def forward(self, x):
            return self.out(self.norm(torch.cat([self.a(x), self.b(x)], 1)))

    model = Cat()
    with torch.no_grad():
        model.norm.weight.copy_(torch.arange(7.0))
    assert NormScale()(of(model, "a"), Stats()).tolist() == [0, 1, 2]
    assert NormScale()(of(model, "b"), Stats()).tolist() == [3, 4, 5, 6]


def test_a_layer_norm_is_no_batch_norm():
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    assert not norm_scales(of(model, "0", torch.randn(2, 4)))


def test_without_a_norm_filters_stand_in_and_a_warning_says_so(caplog):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 1))
    group = of(model, "0")
    with caplog.at_level(logging.WARNING):
        score = NormScale()(group, Stats())
    assert "'0' has no batch norm" in caplog.text
    norms = model[0].weight.detach().flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths(group), norms)
    torch.testing.assert_close(score, norms / norms.mean())


def test_units_that_nothing_scales_are_refused_by_name():
    table = torch.zeros(4, 2)
    site = Site("t", table, (1, 0), 1, (1, 4))
    member = Member(Group("t", site.shape, site=site), 1, torch.arange(2)[:, None], frozenset({"consumer"}))
    with pytest.raises(RecipeError, match="group 'g'"):
        NormScale()(Group("g", (2,), members=(member,)), Stats())
