"""compact-convnets: a few steps to a cost, a short training at a tenth of the rate. The claims are in claims/."""

import pytest
import torch

import secateur as sc
from secateur.core import registry
from secateur.tasks.digits import Images
from secateur.tasks.mobilenet import SmallMobileNet


def net():
    torch.manual_seed(0)
    return SmallMobileNet()


def task(epochs=8):
    g = torch.Generator().manual_seed(0)
    images = Images(torch.randn(80, 3, 8, 8, generator=g), torch.randint(10, (80,), generator=g))
    training = sc.Training(epochs=epochs, optimizer="adamw", lr=1e-3)
    return sc.Task(train=images, test=images, batch_size=8, training=training)


@pytest.fixture(scope="module")
def cut():
    return sc.prune(net(), "compact-convnets", macs=0.6, task=task(), device="cpu")


def test_it_takes_five_steps_along_a_cube_in_the_first_half_of_a_quarter_of_the_training(cut):
    assert cut.provenance["train_steps"] == 8 * 10 / 4
    assert [h["step"] for h in cut.history] == [2, 4, 6, 8, 10]
    assert [h["target"] for h in cut.history] == pytest.approx([0.4 * (1 - (1 - k / 5) ** 3) for k in range(1, 6)])


def test_the_rate_is_a_tenth_of_the_familys_own(cut):
    training = cut.provenance["training"]
    assert (training["lr"], training["optimizer"]) == (pytest.approx(1e-4), "adamw")


def test_the_cost_is_met_by_a_smaller_network(cut):
    assert cut.after["macs"] / cut.before["macs"] == pytest.approx(0.6, abs=0.02)
    assert cut.after["params"] < cut.before["params"] and not cut.masks


def test_depthwise_convolutions_shrink_with_the_channels_that_they_read(cut):
    for block in cut.subject.blocks:
        assert block.depthwise.groups == block.depthwise.weight.shape[0] == block.expand.weight.shape[0]


def test_single_weights_are_masked_but_for_depthwise_convolutions():
    result = sc.prune(net(), "compact-convnets", granularity="weights", macs=0.6, task=task(), device="cpu")
    assert result.after["macs_nonzero"] / result.before["macs"] == pytest.approx(0.6, abs=0.01)
    assert result.after["macs"] == result.before["macs"]
    parameters = dict(result.subject.named_parameters())
    for name, mask in result.masks.items():
        assert "depthwise" not in name and bool((parameters[name][~mask] == 0).all())


def test_depthwise_convolutions_can_be_asked_for():
    assert registry.get("compact-convnets").recipe(granularity="weights", depthwise=True).structure.depthwise


def test_gradients_can_judge_instead():
    recipe = registry.get("compact-convnets").recipe(score="taylor")
    assert recipe.score.score == sc.scores.Taylor()


@pytest.mark.parametrize("steps", [0, 11])
def test_a_number_of_steps_that_is_not_few_is_refused(steps):
    with pytest.raises(sc.RecipeError, match="3 to 10"):
        registry.get("compact-convnets").recipe(steps=steps)
