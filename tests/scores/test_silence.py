"""The divergence without a layer, against the shorter model itself."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.core import Choice, Keep, RecipeError, Stats, SubjectError, Task
from secateur.scores import KL
from secateur.scores.silence import divergence
from secateur.structures import Layers

X = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.inner, self.scale = nn.Linear(6, 6), scale

    def forward(self, x):
        return x + self.scale * torch.tanh(self.inner(x))


def net(*scales):
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(*(Block(s) for s in scales)), nn.Linear(6, 3)).eval()


def scores(model, batches, structure=None, **settings):
    structure = structure or Layers()
    task = Task(train=batches, test=batches, **settings)
    space = structure.seeing(lambda m: m(X[:2])).find(model)
    stats = Stats(collect(model, space.leaves(), KL().needs, task, batches))
    return {g.name: KL()(g, stats) for g in space}


@given(st.integers(0, 2**16), st.integers(1, 4))
def test_it_is_the_divergence_of_distributions_and_never_negative(seed, rows):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(rows, 5, generator=g, dtype=torch.float64) for _ in range(2))
    p, q = a.softmax(-1), b.softmax(-1)
    slow = torch.stack([sum(p[i, c] * (p[i, c].log() - q[i, c].log()) for c in range(5)) for i in range(rows)])
    torch.testing.assert_close(divergence(a, b), slow)
    assert (divergence(a, b) >= -1e-12).all() and (divergence(a, a).abs() < 1e-12).all()


def test_each_layer_has_what_the_model_without_it_shows():
    model = net(0.5, 1.0, 2.0)
    labels = torch.zeros(10, dtype=torch.long)
    found = scores(model, [(X[:7], labels[:7]), (X[7:], labels[7:])])["0"]
    for i in range(3):
        twin = copy.deepcopy(model)
        structure = Layers().seeing(lambda m: m(X[:2]))
        structure.apply_(twin, Choice(Keep({"0": torch.arange(3) != i})))
        expected = divergence(model(X).double(), twin(X).double()).mean()
        torch.testing.assert_close(found[i], expected.detach(), rtol=1e-4, atol=1e-8)


def test_a_block_that_does_nothing_scores_zero_and_goes_first():
    model = net(1.0, 0.0, 1.0)
    task = Task(train=[(X, torch.zeros(10, dtype=torch.long))], test=[(X, torch.zeros(10, dtype=torch.long))])
    recipe = sc.Recipe(Layers(), KL(), budget=sc.budgets.Exactly(1))
    assert sc.prune(model, recipe, task=task).keep["0"].tolist() == [True, False, True]


def test_the_model_is_left_as_it_was():
    model = net(1.0, 2.0).train()
    before = copy.deepcopy(model.state_dict())
    scores(model, [(X, torch.zeros(10, dtype=torch.long))])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items()) and model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_sublayers_can_be_asked_as_well():
    layer = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True, dropout=0.0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(12, 3))
    x = X.reshape(5, 2, 6)
    task = Task(train=[(x, torch.zeros(5, dtype=torch.long))], test=[(x, torch.zeros(5, dtype=torch.long))])
    space = Layers(kinds=("sublayers",)).seeing(lambda m: m(x[:2])).find(model)
    stats = Stats(collect(model, space.leaves(), KL().needs, task, task.batches("train")))
    assert all((KL()(g, stats) > 0).all() for g in space)


def test_outputs_that_are_no_logits_are_refused():
    with pytest.raises(SubjectError, match="no tensor of logits"):
        scores(net(1.0, 1.0), [(X, X)], call=lambda m, b: {"other": m(b[0])})


def test_other_units_than_whole_layers_are_refused():
    with pytest.raises(RecipeError, match="whole layers"):
        KL()(sc.structures.Weights().find(net(1.0)).groups[0], Stats())
