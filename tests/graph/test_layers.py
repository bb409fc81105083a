"""Which modules are blocks and which are sublayers: read off the pass, whatever the names."""

import pytest
import stacks
import torch
from stacks import STACKS, SUBLAYERS, WRONG, Chain, Residual
from torch import nn

from secateur.graph import layers_of, removal

WORDS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


def found(model):
    return layers_of(model, lambda m: m(WORDS))


def paths(lists):
    return sorted(unit.module for units in lists.values() for unit in units)


@pytest.mark.parametrize("name", STACKS)
def test_the_blocks_of_a_model_are_found(name):
    subject = STACKS[name]
    assert paths(layers_of(subject.model(), subject.call()).blocks) == sorted(subject.offers)


@pytest.mark.parametrize("name", STACKS)
def test_the_sublayers_of_its_blocks_are_found(name):
    subject = STACKS[name]
    assert paths(layers_of(subject.model(), subject.call()).sublayers) == sorted(SUBLAYERS[name])


@pytest.mark.parametrize("name", WRONG)
def test_what_only_looks_residual_is_no_block(name):
    assert not any(path.startswith("blocks.") for path in paths(found(Chain(WRONG[name])).blocks))


def test_a_module_that_is_called_twice_is_no_block_and_is_named():
    layers = found(Chain(Residual, twice=True))
    assert paths(layers.blocks) == ["blocks.0"]
    assert layers.skipped == {"blocks.1": "it is called 2 times"}


def test_a_module_under_two_names_is_no_block_and_is_named():
    model = Chain(Residual)
    model.alias = model.blocks[1]
    assert found(model).skipped == {"blocks.1": "it has two names"}


def test_blocks_that_stay_are_named_with_the_reason():
    t5, resnet = STACKS["t5"], STACKS["ResNet"]
    why = layers_of(t5.model(), t5.call()).skipped
    assert why.keys() == {"model.encoder.block.0", "model.decoder.block.0"}
    assert all("more than one tensor" in reason for reason in why.values())
    assert "no sum" in layers_of(resnet.model(), resnet.call()).skipped["two.0"]


def test_a_stage_that_only_chains_blocks_is_no_unit():
    subject = STACKS["PreActivatedResNet"]
    model = nn.Sequential(subject.model().stem, nn.Sequential(*subject.model().blocks), subject.model().last)
    assert paths(layers_of(model, subject.call()).blocks) == ["1.0", "1.1", "1.2"]


def test_lone_blocks_of_lists_that_are_alike_compete():
    model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), Residual(stacks.Mlp())) for _ in range(3)))
    assert {name: len(units) for name, units in found(model).blocks.items()} == {"*": 3}


@pytest.mark.parametrize(
    "name, sublayer, also",
    [
        ("Vit", "blocks.1.attention", {"blocks.1.scale", "blocks.1.norm_a"}),
        ("Vit", "blocks.1.mlp", {"blocks.1.norm_b"}),
        ("PreActivatedResNet", "blocks.0.b", {"blocks.0.bn_b", "blocks.0.a", "blocks.0.bn_a"}),
        ("ByKeyword", "layers.a.mlp", set()),  # the other branch reads the norm as well
        ("bert", "bert.encoder.layer.0.output", {"bert.encoder.layer.0.intermediate"}),
        ("gemma2", "model.layers.0.mlp", {"model.layers.0.pre_feedforward_layernorm"}),
    ],
)
def test_what_served_only_a_sublayer_goes_with_it(name, sublayer, also):
    subject = STACKS[name]
    layers = layers_of(subject.model(), subject.call())
    (unit,) = [u for units in layers.sublayers.values() for u in units if u.module == sublayer]
    assert removal(layers.streams, [unit]).skips.keys() >= {sublayer, *also}


def test_both_branches_take_the_norm_that_they_share_along():
    subject = STACKS["ByKeyword"]
    layers = layers_of(subject.model(), subject.call())
    units = [u for u in layers.sublayers["layers"] if u.module.startswith("layers.a.")]
    assert removal(layers.streams, units).skips.keys() == {"layers.a.attention", "layers.a.mlp", "layers.a.norm"}


def test_what_a_removed_block_passes_on_is_not_idle():
    subject = STACKS["MobileNet"]
    layers = layers_of(subject.model(), subject.call())
    assert removal(layers.streams, layers.blocks["body"]).skips.keys() == {"body.2", "body.4"}


def test_looking_leaves_the_model_and_the_hooks_of_torch_as_they_were():
    from torch.nn.modules import module as hooks

    subject = STACKS["Vit"]
    model = subject.model().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    layers_of(model, subject.call())
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not hooks._has_any_global_hook()
