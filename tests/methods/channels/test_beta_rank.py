"""Beta-Rank as a recipe: scores of a layer's filters, rates, rescaling. The claim is in claims/beta_rank.py."""

import torch
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.core import Keep, Stats, Task, registry
from secateur.recovery import RescaleKept


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )


def task():
    g = torch.Generator().manual_seed(1)
    batch = (torch.randn(12, 1, 6, 6, generator=g), torch.arange(12) % 2)
    return Task(train=[batch], test=[batch], training=sc.Training(epochs=1))


def scored(model, **settings):
    recipe = registry.get("beta-rank").recipe(**settings)
    space = recipe.structure.find(model, task().train[0][0])
    return recipe, space, Stats(collect(model, space.leaves(), recipe.score.needs, task(), task().batches()))


def test_scores_of_every_layer_lie_between_0_and_1_and_reach_both():
    recipe, space, stats = scored(net())
    for group in space:
        score = recipe.score(group, stats)
        assert (score.amin(), score.amax()) == (0, 1)


def test_what_the_outputs_are_is_seen_before_the_norm():
    model = net()
    recipe, space, stats = scored(model)
    before = recipe.score(space["0"], stats)
    with torch.no_grad():
        model[1].weight.copy_(torch.rand(6))
    recipe, space, stats = scored(model)
    torch.testing.assert_close(recipe.score(space["0"], stats), before)


def test_the_equation_and_the_code_disagree():
    recipe, space, stats = scored(net())
    other, space, more = scored(net(), ratio="in/out")
    assert not torch.allclose(recipe.score(space["0"], stats), other.score(space["0"], more))


def test_rates_may_be_given_for_each_layer():
    result = sc.prune(net(), "beta-rank", sparsities={"0": 0.5, "3": 0.25}, heal=0, task=task())
    assert result.keep.counts == {"0": 3, "3": 3}


def test_rescaling_takes_the_score_of_each_filters_own_old_place():
    model = net()
    recipe, space, stats = scored(model, rescale=True)
    (rescale,) = (r for r in recipe.recovery if isinstance(r, RescaleKept))
    keep = Keep({g.name: torch.arange(g.size) >= 2 for g in space})
    values = rescale.repaired(space, keep, stats)
    for name in ("0", "3"):
        weight = model.get_parameter(f"{name}.weight").detach()
        score = recipe.score(space[name], stats)[:, None, None, None]
        torch.testing.assert_close(values[f"{name}.weight"], weight * (1 + score.float()))
    assert set(values) == {"0.weight", "3.weight"}


def test_what_stays_was_rescaled_when_it_is_cut():
    model = net()
    dense = {n: p.detach().clone() for n, p in model.named_parameters()}
    recipe, space, stats = scored(model)
    factor = 1 + recipe.score(space["0"], stats).float()
    result = sc.prune(model, "beta-rank", rescale=True, sparsity=0.5, heal=0, task=task(), include=("0",))
    kept = result.keep["0"]
    torch.testing.assert_close(result.subject[0].weight, (dense["0.weight"] * factor[:, None, None, None])[kept])
