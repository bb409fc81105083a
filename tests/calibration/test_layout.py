"""Which modules follow each other, and what is refused."""

import pytest
import torch
from families import FAMILIES, batches_of, model_of
from torch import nn

from secateur.calibration import checked_layout, layout_of
from secateur.core import SubjectError, first_call

CHAINS = {
    "llama": [("model.layers.0", "model.norm", 4)],
    "gpt2": [("transformer.h.0", "transformer.ln_f", 4)],
    "opt": [("model.decoder.layers.0", "model.decoder.final_layer_norm", 4)],
    "bert": [("bert.encoder.layer.0", "cls", 4)],
    "t5": [("encoder.block.0", "encoder.final_layer_norm", 4), ("decoder.block.0", "decoder.final_layer_norm", 4)],
    "vit": [("vit.embeddings", "vit.layernorm", 5)],
    "resnet20": [("layer1.0", "layer3.2", 9)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_blocks_are_found_by_what_flows(name):
    batch = batches_of(name)[0]
    layout = layout_of(model_of(name), lambda m: first_call(m, batch))
    assert [(c.paths[0], c.paths[-1], len(c.paths)) for c in layout.chains] == CHAINS[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layout_is_proven_on_a_sample(name):
    batch = batches_of(name)[0]
    assert checked_layout(model_of(name), lambda m: first_call(m, batch), batch).chains


class Behind(nn.Module):
    """The third layer is given something made of what the first one gave."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Bilinear(4, 4, 4) for _ in range(3)])

    def forward(self, x):
        side = x
        for layer in self.layers:
            x = layer(x, side)
            side = x * 2
        return x


def test_a_side_path_between_blocks_is_noticed():
    x = torch.randn(2, 4)
    with pytest.raises(SubjectError, match="comes from blocks before it"):
        checked_layout(Behind(), lambda m: m(x), x)


class Doubling(nn.Module):
    """Between two layers the stream is changed in place."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(4)])

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == 1:
                x *= 2
        return x


def test_a_change_in_place_between_layers_ends_a_chain():
    x = torch.randn(2, 4)
    with torch.no_grad():
        layout = layout_of(Doubling(), lambda m: m(x))
    assert [chain.paths for chain in layout.chains] == [("layers.0", "layers.1"), ("layers.2", "layers.3")]


def test_a_model_without_chains_has_none():
    x = torch.randn(2, 4)
    assert layout_of(nn.Linear(4, 4), lambda m: m(x)).chains == ()


def test_what_does_not_run_is_refused():
    with pytest.raises(SubjectError, match="does not run on the example"):
        layout_of(nn.Sequential(nn.Linear(4, 4), nn.Linear(3, 3)), lambda m: m(torch.randn(2, 4)))
