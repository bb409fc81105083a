"""Rethinking: the same share of every layer by L1 norm, then from scratch. The claims are in claims/rethinking.py."""

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import Stats, registry
from secateur.structures import Channels
from secateur.tasks.digits import Images
from secateur.tasks.models import CifarResNet

EXAMPLE = torch.randn(2, 3, 8, 8)


def task():
    g = torch.Generator().manual_seed(0)
    images = Images(torch.randn(16, 3, 8, 8, generator=g), torch.randint(10, (16,), generator=g))
    return sc.Task(train=images, test=images, batch_size=8, training=sc.Training(epochs=4, optimizer="sgd", lr=0.01))


def net():
    torch.manual_seed(0)
    return CifarResNet(8, width=8)


def test_a_channel_is_worth_the_l1_norm_of_the_filter_that_makes_it_and_of_nothing_else():
    model = net()
    recipe = registry.get("rethinking").recipe()
    space = recipe.structure.seeing(lambda seen: seen(EXAMPLE)).find(model)
    for name in ("layer1.0.conv1", "layer3.0.conv1"):
        filters = model.get_submodule(name).weight.detach()
        torch.testing.assert_close(recipe.score(space[name], Stats()), filters.abs().sum((1, 2, 3)))


def test_every_layer_loses_the_same_share_and_streams_stay():
    result = sc.prune(net(), "rethinking", sparsity=0.25, task=task(), device="cpu")
    assert {n: m.float().mean().item() for n, m in result.keep.masks.items()} == {
        f"layer{i}.0.conv1": 0.75 for i in (1, 2, 3)
    }
    assert result.subject.conv1.weight.shape[0] == 8


@pytest.mark.parametrize("budget", ["epochs", "macs"])
def test_it_trains_for_the_epochs_or_the_multiplications_of_the_dense_model(budget):
    result = sc.prune(net(), "rethinking", macs=0.5, budget=budget, task=task(), device="cpu")
    ratio = result.before["macs"] / result.after["macs"] if budget == "macs" else 1
    assert result.provenance["train_steps"] == int(4 * ratio) * 2


def test_a_length_on_the_call_is_that_of_the_dense_recipe():
    result = sc.prune(net(), "rethinking", macs=0.5, heal=1, most=1.5, task=task(), device="cpu")
    assert result.provenance["scratch"]["epochs"] == 1
    result = sc.prune(net(), "rethinking", macs=0.4, heal=2, most=1.5, task=task(), device="cpu")
    assert result.provenance["scratch"]["epochs"] == 3


def test_the_weights_that_choose_the_channels_do_not_matter_in_the_end():
    torch.manual_seed(1)
    ends = []
    for gain in (1.0, 5.0):
        model = net()
        with torch.no_grad():
            for m in model.modules():
                if isinstance(m, nn.Conv2d):
                    m.weight.mul_(gain)
        ends.append(sc.prune(model, "rethinking", sparsity=0.5, task=task(), device="cpu").subject.state_dict())
    assert all(torch.equal(t, ends[1][n]) for n, t in ends[0].items())


def test_it_prunes_what_is_asked_for():
    assert isinstance(registry.get("rethinking").recipe().structure, Channels)
    assert registry.get("rethinking").recipe(streams=True).structure.streams
