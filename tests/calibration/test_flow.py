"""The flow of gradients of a few samples: against the whole Hessian, sample by sample, and what is left as it was."""

import copy
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.functional import hessian, jacobian
from torch.func import functional_call

from secateur.calibration import collect
from secateur.core import (
    Balanced,
    BalancedGradient,
    Gradient,
    HessianGradient,
    NumericsError,
    RecipeError,
    SubjectError,
    Task,
)
from secateur.structures import Weights

seeds = st.integers(0, 2**16)
ALL = Balanced(per_class=None, norms="running")


def net(seed=0, act=nn.Tanh):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), act(), nn.Linear(4, 2, bias=False)).double()


def batches(seed=0, sizes=(5, 4), classes=2):
    g = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 3, generator=g, dtype=torch.float64), torch.randint(classes, (n,), generator=g)) for n in sizes
    ]


def gather(model, *statistics, data=None, **settings):
    data = batches() if data is None else data
    task = Task(train=data, test=data, name="mine", **settings)
    return collect(model, Weights().find(model), statistics, task, data)


def loss_of(model, x, y, temperature=1.0):
    names = [n for n, p in model.named_parameters() if p.dim() > 1]
    fixed = {n: p.detach() for n, p in model.named_parameters()}
    shapes = [fixed[n].shape for n in names]

    def loss(flat):
        parts = flat.split([s.numel() for s in shapes])
        mine = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return nn.functional.cross_entropy(functional_call(model, fixed | mine, (x,)) / temperature, y)

    return loss, torch.cat([fixed[n].flatten() for n in names])


@given(seeds, st.sampled_from([1.0, 200.0]), st.integers(2, 20))
def test_it_is_the_whole_hessian_times_the_gradient_over_all_matrices(seed, temperature, batch_size):
    model, data = net(seed), batches(seed)
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    loss, flat = loss_of(model, x, y, temperature)
    asked = HessianGradient(Balanced(per_class=99, temperature=temperature))
    found = gather(model, asked, data=data, batch_size=batch_size)
    together = torch.cat([found[name, asked].flatten() for name in ("0.weight", "2.weight")])
    torch.testing.assert_close(together, hessian(loss, flat) @ jacobian(loss, flat), rtol=1e-8, atol=1e-14)


def test_leaving_a_matrix_out_changes_nothing_for_the_others():
    model, data, asked = net(), batches(), HessianGradient()
    task = Task(train=data, test=data)
    alone = collect(model, Weights(include=("0",)).find(model), (asked,), task, data)
    assert torch.equal(alone["0.weight", asked], gather(model, asked)["0.weight", asked])


@given(seeds)
def test_whole_batches_give_the_gradient_of_all_samples(seed):
    model, data = net(seed), batches(seed)
    found = gather(model, BalancedGradient(ALL), Gradient(), data=data)
    for name in ("0.weight", "2.weight"):
        torch.testing.assert_close(
            found[name, BalancedGradient(ALL)], found[name, Gradient()], rtol=1e-5, atol=1e-7, check_dtype=False
        )


def test_the_first_samples_of_each_class_count_and_no_others():
    model = net()
    x = torch.randn(9, 3, dtype=torch.float64)
    y = torch.tensor([0, 0, 0, 0, 1, 0, 1, 1, 1])
    asked = BalancedGradient(Balanced(per_class=2))
    found = gather(model, asked, data=[(x[:3], y[:3]), (x[3:], y[3:])])["0.weight", asked]
    few = [0, 1, 4, 6]
    nn.functional.cross_entropy(model(x[few]), y[few]).backward()
    torch.testing.assert_close(found, model[0].weight.grad)


def test_a_dict_of_batches_serves_as_well():
    model, data, asked = net(), batches(), HessianGradient()
    named = [{"x": x, "labels": y} for x, y in data]
    task = Task(train=named, test=named, call=lambda m, b: m(b["x"]))
    found = collect(model, Weights().find(model), (asked,), task, named)
    assert torch.equal(found["0.weight", asked], gather(model, asked, data=data)["0.weight", asked])


def test_an_output_with_logits_is_cooled_like_a_tensor():
    model, asked = net(), HessianGradient()
    told = gather(model, asked, call=lambda m, b: SimpleNamespace(logits=m(b[0]), loss=None))
    assert torch.equal(told["0.weight", asked], gather(model, asked)["0.weight", asked])


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.out = nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.norm.running_mean.fill_(3)

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.conv(x[:, :, None]))).flatten(1))


def test_batch_norms_use_the_batch_and_keep_their_buffers():
    model = Normed().double().eval()
    twin = copy.deepcopy(model).train()
    before = copy.deepcopy(model.state_dict())
    asked = BalancedGradient(Balanced(per_class=3))
    x, y = batches(sizes=(8,))[0]
    found = gather(model, asked, HessianGradient(), data=[(x, y)])["conv.weight", asked]
    few = sorted(i for c in (0, 1) for i in (y == c).nonzero().flatten().tolist()[:3])
    nn.functional.cross_entropy(twin(x[few]), y[few]).backward()
    torch.testing.assert_close(found, twin.conv.weight.grad)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m.training for m in model.modules()) and all(p.grad is None for p in model.parameters())


def test_one_sample_alone_is_refused_where_norms_need_a_spread():
    x, y = batches(sizes=(1,))[0]
    with pytest.raises(RecipeError, match="more samples of each class"):
        gather(Normed().double(), HessianGradient(), data=[(x, y)])
    running = HessianGradient(Balanced(norms="running"))
    assert gather(Normed().double(), running, data=[(x, y)])["conv.weight", running].isfinite().all()


def test_targets_that_are_no_classes_are_refused_with_a_way_out():
    x = torch.randn(6, 3, dtype=torch.float64)
    settings = {"loss": lambda o, b: (o - b[1]).square().mean(), "metrics": {}}
    with pytest.raises(SubjectError, match="per_class=None"):
        gather(net(), HessianGradient(), data=[(x, x[:, :2])], **settings)
    asked = HessianGradient(ALL)
    assert gather(net(), asked, data=[(x, x[:, :2])], **settings)["0.weight", asked].any()


def test_logits_of_tokens_cannot_be_cooled():
    with pytest.raises(SubjectError, match=r"temperature=1\.0"):
        gather(net(), HessianGradient(), call=lambda m, b: SimpleNamespace(logits=m(b[0])[:, None], loss=None))


def test_samples_of_unlike_shapes_are_refused():
    (x, y), wider = batches(sizes=(4,))[0], torch.randn(4, 5, dtype=torch.float64)
    with pytest.raises(SubjectError, match="make no batch"):
        gather(net(), HessianGradient(), data=[(x, y), (wider, y)], call=lambda m, b: m(b[0][:, :3]))


def test_a_loss_that_is_not_finite_is_named():
    x, y = batches()[0]
    with pytest.raises(NumericsError, match="loss is nan"):
        gather(net(), HessianGradient(), data=[(x * float("nan"), y)])


def test_a_frozen_parameter_is_named():
    model = net()
    model[2].weight.requires_grad_(False)
    with pytest.raises(SubjectError, match=r"2\.weight"):
        gather(model, HessianGradient())


@pytest.mark.parametrize("wrong", [{"per_class": 0}, {"temperature": 0.0}, {"temperature": float("nan")}])
def test_samples_outside_their_range_are_refused(wrong):
    with pytest.raises(RecipeError, match="above 0"):
        Balanced(**wrong)


def test_attention_and_recurrence_can_be_differentiated_twice():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.attend = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0)
            self.lstm, self.out = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 2)

        def forward(self, x):
            return self.out(self.lstm(self.attend(x))[0][:, -1])

    model, asked = Reader(), HessianGradient()
    data = [(torch.randn(6, 5, 4), torch.arange(6) % 2)]
    found = gather(model, asked, data=data)
    assert all(found[name, asked].any() for name in ("attend.self_attn.in_proj_weight", "lstm.weight_ih_l0"))


def test_where_nothing_bends_the_product_is_zero():
    model, asked = net(act=nn.Identity), HessianGradient(ALL)
    model = nn.Sequential(model[2]).double()
    data = [(torch.randn(5, 4, dtype=torch.float64), torch.zeros(5))]
    found = gather(model, asked, data=data, loss=lambda o, b: o.mean(), metrics={})
    assert not found["0.weight", asked].any()
