"""Plans: what was done, told as plain data and done again elsewhere."""

import json

import pytest
import torch
from torch import nn

from secateur.core import AddBias, CheckpointError, Mask, Plan, Resize, masks_of

PLAN = Plan((Mask("0.weight"), Resize("1.weight", (3, 5)), Resize("1.bias", (3,))))


def net(device="cpu"):
    return nn.Sequential(nn.Linear(4, 5, device=device), nn.Linear(5, 6, device=device))


def test_a_plan_survives_json():
    assert Plan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN


def test_a_replayed_plan_masks_and_resizes():
    model = net()
    PLAN.replay_(model)
    assert list(masks_of(model)) == ["0.weight"] and model[1].weight.shape == (3, 5)


def test_a_resized_layer_knows_its_new_size():
    model = net()
    PLAN.replay_(model)
    assert (model[1].in_features, model[1].out_features) == (5, 3)


def test_a_plan_replays_on_the_meta_device():
    model = net("meta")
    PLAN.replay_(model)
    assert model[1].weight.is_meta and masks_of(model)["0.weight"].is_meta


def test_a_replayed_mask_leaves_weights_as_they_are():
    model = net()
    before = model[0].weight.detach().clone()
    Plan((Mask("0.weight"),)).replay_(model)
    assert torch.equal(model[0].weight, before) and masks_of(model)["0.weight"].all()


def test_replaying_a_mask_twice_leaves_the_first_one():
    model = net()
    plan = Plan((Mask("0.weight"),))
    plan.replay_(model)
    masks_of(model)["0.weight"].zero_()
    plan.replay_(model)
    assert not masks_of(model)["0.weight"].any()


def test_a_buffer_stays_a_buffer_when_it_is_resized():
    model = nn.BatchNorm1d(4)
    Plan((Resize("running_mean", (2,)),)).replay_(model)
    assert model.running_mean.shape == (2,) and "running_mean" in dict(model.named_buffers())


def test_a_frozen_parameter_stays_frozen_when_it_is_resized():
    model = net().requires_grad_(False)
    PLAN.replay_(model)
    assert not model[1].weight.requires_grad


def test_an_embedding_knows_its_new_size():
    model = nn.Embedding(5, 4)
    Plan((Resize("weight", (5, 2)),)).replay_(model)
    assert (model.num_embeddings, model.embedding_dim) == (5, 2)


def test_repeating_a_mask_adds_nothing_to_a_plan():
    mask = Plan((Mask("a"),))
    assert mask + Plan((Mask("a"), Mask("b"))) == Plan((Mask("a"), Mask("b")))


def test_of_several_sizes_of_a_tensor_the_last_one_counts():
    plan = Plan((Resize("a", (3,)),)) + Plan((Resize("b", (1,)),)) + Plan((Resize("a", (2,)),))
    assert plan.actions == (Resize("a", (2,)), Resize("b", (1,)))


def resize(shape, **more):
    return [{"do": "resize", "tensor": "0.weight", "shape": shape, **more}]


HOSTILE = {
    "no list": {"do": "mask"},
    "null": None,
    "text": "mask",
    "an entry that is no mapping": [["mask", "0.weight"]],
    "an unknown deed": [{"do": "exec", "tensor": "0.weight"}],
    "no deed": [{"tensor": "0.weight"}],
    "no tensor": [{"do": "mask"}],
    "a tensor that is no name": [{"do": "mask", "tensor": 3}],
    "a mask with more": [{"do": "mask", "tensor": "a", "code": "import os"}],
    "a resize with more": resize([1], dtype="object"),
    "a resize without a shape": [{"do": "resize", "tensor": "a"}],
    "a negative size": resize([-1, 4]),
    "a size that is no whole number": resize([1.5]),
    "a size that is a boolean": resize([True]),
    "a size in words": resize(["4"]),
    "a shape that is a number": resize(4),
    "a nested shape": resize([[4]]),
    "a giant": resize([1 << 30, 1 << 30]),
    "a giant times nothing": resize([0, 1 << 70]),
    "a deed that is a list": [{"do": [], "tensor": "a"}],
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_anything_unexpected_in_a_plan_is_a_checkpoint_error(data):
    with pytest.raises(CheckpointError, match="no action of a plan"):
        Plan.from_json(data)


@pytest.mark.parametrize(
    "action",
    [
        Mask("2.weight"),
        Mask("0.weights"),
        Mask("forward"),
        Mask("0"),
        Mask(""),
        Mask("0.training"),
        Mask("__class__.__init__"),
        Resize("0.__dict__", (1,)),
        Resize("0", (1,)),
        Resize("0.weight", (3,)),
        Resize("0.bias", (1, 1)),
    ],
    ids=str,
)
def test_an_action_that_does_not_fit_the_model_is_a_checkpoint_error(action):
    with pytest.raises(CheckpointError, match="the architecture that was pruned"):
        Plan((action,)).replay_(net())


def bare(device="cpu"):
    return nn.Sequential(nn.Linear(4, 5, bias=False, device=device), nn.Conv2d(3, 2, 1, bias=False, device=device))


ADDED = Plan((AddBias("0.bias"), AddBias("1.bias")))


def test_an_added_bias_survives_json_and_comes_back_as_zeros_on_any_device():
    plan = Plan.from_json(json.loads(json.dumps(ADDED.to_json())))
    assert plan == ADDED
    for device in ("cpu", "meta"):
        model = bare(device)
        plan.replay_(model)
        assert (model[0].bias.shape, model[1].bias.shape) == ((5,), (2,))
        assert model[0].bias.device.type == device and isinstance(model[0].bias, nn.Parameter)
    plan.replay_(model := bare())
    assert not model[0].bias.any() and set(model.state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_an_added_bias_is_as_its_weight():
    model = bare().bfloat16().requires_grad_(False)
    ADDED.replay_(model)
    assert model[0].bias.dtype == torch.bfloat16 and not model[0].bias.requires_grad


def test_a_transposed_convolution_has_a_bias_of_its_outputs():
    model = nn.ConvTranspose2d(4, 6, 1, groups=2, bias=False)
    Plan((AddBias("bias"),)).replay_(model)
    assert model.bias.shape == (6,)


def test_an_added_bias_leaves_one_that_is_there():
    model = net()
    before = model[0].bias.detach().clone()
    ADDED.replay_(nn.Sequential(model[0], nn.Conv2d(3, 2, 1)))
    assert torch.equal(model[0].bias, before)


def test_an_added_bias_is_resized_by_later_cuts():
    plan = ADDED + Plan((Resize("0.weight", (3, 4)), Resize("0.bias", (3,)))) + ADDED
    model = bare()
    plan.replay_(model)
    assert model[0].bias.shape == (3,) and model[0].out_features == 3


@pytest.mark.parametrize("name", ["0.weight", "2.bias", "3.bias", "0.gain"])
def test_only_linear_layers_and_convolutions_get_a_bias(name):
    model = nn.Sequential(*bare(), nn.RMSNorm(2))
    with pytest.raises(CheckpointError, match="no such tensor"):
        Plan((AddBias(name),)).replay_(model)


@pytest.mark.parametrize("entry", [{"do": "bias"}, {"do": "bias", "tensor": 3}, {"do": "bias", "tensor": "a", "n": 1}])
def test_a_damaged_bias_is_refused(entry):
    with pytest.raises(CheckpointError, match="no action of a plan"):
        Plan.from_json([entry])
