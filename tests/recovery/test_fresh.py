"""New random weights at the sizes that there are, and nothing of the old ones left in silence."""

import pytest
import torch
from torch import nn

from secateur.recovery import cut_alike, reset_
from secateur.structures import Channels


class Scaled(nn.Module):
    """A parameter of its own that no module resets."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.gain = nn.Parameter(torch.full((4,), 7.0))

    def forward(self, x):
        return self.inner(x) * self.gain


def test_every_parameter_and_statistic_is_as_new():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(16, 4), nn.LayerNorm(4), nn.LSTM(4, 3))
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.fill_(9)
    assert reset_(model) == []
    assert not any(bool((t == 9).any()) for t in model.state_dict().values())
    assert torch.equal(model[1].weight, torch.ones(4)) and torch.equal(model[1].running_var, torch.ones(4))


def test_the_spread_is_that_of_the_size_that_is_there():
    narrow, wide = nn.Linear(16, 400), nn.Linear(1600, 400)
    wide.weight = nn.Parameter(wide.weight[:, :16].detach().clone())  # as a cut leaves it
    wide.in_features = 16
    torch.manual_seed(0)
    reset_(narrow)
    torch.manual_seed(0)
    reset_(wide)
    assert torch.equal(narrow.weight, wide.weight)


def test_what_nothing_resets_is_named_and_kept():
    model = Scaled()
    before = model.inner.weight.detach().clone()
    assert reset_(model) == ["gain"]
    assert torch.equal(model.gain, torch.full((4,), 7.0)) and not torch.equal(model.inner.weight, before)


def test_a_weight_that_is_computed_is_not_taken_for_reset():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    assert set(reset_(model)) == {"parametrizations.weight.original0", "parametrizations.weight.original1"}
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_the_models_own_initialiser_has_the_last_word():
    class Own(Scaled):
        def reset_parameters(self):
            nn.init.ones_(self.gain)
            nn.init.eye_(self.inner.weight)

    model = Own()
    assert reset_(model) == []
    assert torch.equal(model.gain, torch.ones(4)) and torch.equal(model.inner.weight, torch.eye(4))


def test_attention_of_torch_resets_itself():
    model = nn.TransformerEncoderLayer(8, 2, 16)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.dim() > 1}
    assert reset_(model) == []
    assert not any(torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before)


def test_a_model_of_transformers_is_initialised_as_transformers_does():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.norm.weight.fill_(3)
        model.model.layers[0].mlp.up_proj.weight.fill_(3)
    assert reset_(model) == []
    assert torch.equal(model.model.norm.weight, torch.ones(32))
    up = model.model.layers[0].mlp.up_proj.weight
    assert abs(float(up.detach().std()) / config.initializer_range - 1) < 0.1


def test_tensors_are_cut_where_the_units_lie():
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    space = Channels().find(model, torch.randn(2, 3))
    (group,) = space
    stays = torch.tensor([True, False, True, True, False])
    from secateur.core import Keep

    state = dict(model.state_dict())
    cut = cut_alike(state, space, Keep({group.name: stays}))
    assert torch.equal(cut["0.weight"], state["0.weight"][stays]) and torch.equal(cut["0.bias"], state["0.bias"][stays])
    assert torch.equal(cut["2.weight"], state["2.weight"][:, stays]) and torch.equal(cut["2.bias"], state["2.bias"])
