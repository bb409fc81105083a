"""Where garbage goes: into a layer's output where that is smaller than its weight, else into the weight."""

import pytest
import torch
from torch import nn

from secateur.graph import couple, masked_outputs
from secateur.graph.capture import still
from secateur.graph.litter import Litter


class Shared(nn.Module):
    """One layer, called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x):
        return self.last(self.twice(self.twice(self.first(x).relu()).relu()))


def perceptron():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


def littered(model, samples):
    """The model's litter where half of its hidden units go, and what goes."""
    torch.manual_seed(0)
    x = torch.randn(samples, 8)
    coupling = couple(model.eval(), lambda model: model(x))
    [family] = coupling.families
    gone = coupling.gone({family.name: torch.arange(family.size) % 2 == 0})
    return Litter(coupling, gone, seed=1), coupling, gone, x


def made_of(model, litter):
    """What the first layer's weight is while litter lies."""
    with still(model), litter.in_tensors(model):
        return model[0].weight


def test_a_small_output_is_littered_in_the_place_of_its_weight():
    model = perceptron()
    litter, *_ = littered(model, 1)
    assert list(litter.outputs) == [0]
    assert made_of(model, litter) is model[0].weight


def test_a_large_output_leaves_the_litter_to_the_weight():
    model = perceptron()
    litter, *_ = littered(model, 100)
    assert not litter.outputs
    assert made_of(model, litter)[1::2].abs().mean() > 10


def test_only_what_goes_is_littered_in_an_output():
    litter, *_ = littered(perceptron(), 1)
    made = litter.in_output(0, torch.zeros(1, 32))
    assert made[0, 1::2].abs().min() > 0 and made[0, ::2].eq(0).all()


def test_a_weight_that_is_read_twice_is_littered_itself():
    litter, coupling, *_ = littered(Shared(), 1)
    twice = coupling.graph.parameters()["twice.weight"]
    assert twice not in {coupling.graph.nodes[n].args[1].value for n in litter.outputs}


@pytest.mark.parametrize("samples", [1, 100])
@pytest.mark.parametrize("build", [perceptron, Shared])
def test_garbage_changes_nothing_where_readers_read_zeros(build, samples):
    model = build()
    _, coupling, gone, x = littered(model, samples)
    clean, dirty = (masked_outputs(model, lambda m: m(x), coupling, gone, garbage=g)[0] for g in (None, 3))
    assert torch.allclose(clean, dirty, atol=1e-6)
