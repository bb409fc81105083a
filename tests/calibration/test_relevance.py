"""Relevance: rules against loops, conservation through whole networks, and what has no rule."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.calibration.relevance import RelevancePass
from secateur.calibration.rules import alpha_beta_rule, epsilon_rule, softmax_rule
from secateur.core import Rules, Task, UnitRelevance
from secateur.structures import Channels
from secateur.tasks.models import CifarResNet

seeds, sizes = st.integers(0, 2**16), st.integers(1, 4)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(x, w):
    return x @ w.T


@given(sizes, sizes, st.sampled_from([1.0, 2.0, 3.5]), seeds)
def test_alpha_beta_equals_the_formula_written_as_loops(into, out, alpha, seed):
    x, w, r = drawn(1, into, seed=seed), drawn(out, into, seed=seed + 1), drawn(1, out, seed=seed + 2)
    expected = torch.zeros(1, into, dtype=torch.float64)
    for j in range(out):
        parts = x[0] * w[j]
        up, down = parts.clamp_min(0), parts.clamp_max(0)
        if up.sum() > 0:
            expected[0] += alpha * up / up.sum() * r[0, j]
        if down.sum() < 0 and alpha != 1:
            expected[0] += (1 - alpha) * down / down.sum() * r[0, j]
    torch.testing.assert_close(alpha_beta_rule(x, w, r, linear, alpha), expected, rtol=1e-5, atol=1e-5)


@given(sizes, sizes, seeds)
def test_epsilon_equals_the_formula_written_as_loops(into, out, seed):
    x, w, r = drawn(1, into, seed=seed), drawn(out, into, seed=seed + 1), drawn(1, out, seed=seed + 2)
    z = x @ w.T + 0.3
    expected = torch.zeros(1, into, dtype=torch.float64)
    for i in range(into):
        for j in range(out):
            expected[0, i] += x[0, i] * w[j, i] / (z[0, j] + 0.1 * (1 if z[0, j] >= 0 else -1)) * r[0, j]
    torch.testing.assert_close(epsilon_rule(x, w, z, r, linear, 0.1), expected)


def test_the_softmax_rule_is_the_formula_and_leaves_out_what_is_masked():
    x, r = drawn(3), drawn(3, seed=1)
    p = x.softmax(0)
    torch.testing.assert_close(softmax_rule(x, p, r, 0), x * (r - p * r.sum()))
    x[1] = -torch.inf
    assert softmax_rule(x, x.softmax(0), r, 0).isfinite().all()


def relevance(model, x, rules=None, start=None):
    """Relevance of the outputs of every weight, by name, summed over samples and positions, and of the logits."""
    names, found = {id(p): n for n, p in model.named_parameters()}, {}

    def told(weight, r):
        found[names[id(weight)]] = found.get(names[id(weight)], 0) + r.reshape(-1, r.shape[-1]).sum(0)

    mode = RelevancePass(rules or Rules(), told)
    with mode:
        out = model(x)
    start = out.detach() if start is None else start
    torch.autograd.grad(out, mode.anchor, start, allow_unused=True)
    return found, out, start


class Residual(nn.Module):
    """Convolutions with norms, a sum, pools, strides, concatenation, no biases: every kind of way back."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.a = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.b = nn.Conv2d(4, 3, 2, stride=2, bias=False)
        self.c = nn.Conv2d(4, 2, 1, bias=False)
        self.head = nn.Linear(5, 3, bias=False)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + torch.relu(self.a(x)))
        x = nn.functional.max_pool2d(x, 2)
        y = torch.cat([torch.relu(self.b(x)), nn.functional.avg_pool2d(torch.relu(self.c(x)), 2)], 1)
        return self.head(y.mean((2, 3)))


def residual(seed=0):
    torch.manual_seed(seed)
    model = Residual().double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.abs_()  # every output has something that speaks for it
        model.norm.running_mean.fill_(-0.5)
    return model


def test_the_pass_computes_what_the_model_computes():
    model, x = residual(), drawn(3, 2, 8, 8)
    torch.testing.assert_close(relevance(model, x)[1].detach(), model(x).detach())


@given(seeds)
def test_what_starts_at_the_logits_all_arrives_at_the_first_layer(seed):
    found, _, start = relevance(residual(seed), drawn(2, 2, 8, 8, seed=seed).abs())
    for name in ("head.weight", "stem.weight"):
        torch.testing.assert_close(found[name].sum(), start.sum(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["b.weight"].sum() + found["c.weight"].sum(), start.sum(), rtol=1e-4, atol=1e-6)


def test_it_is_conserved_through_a_resnet_within_a_hundredth():
    torch.manual_seed(0)
    model, x = CifarResNet(8, 8).eval(), torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        model.linear.weight.abs_()
    found, _, start = relevance(model, x)
    assert found["conv1.weight"].sum().item() == pytest.approx(start.sum().item(), rel=0.01)


@given(seeds)
def test_epsilon_in_a_network_without_biases_is_gradient_times_output(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)).double()
    x = drawn(4, 3, seed=seed)
    found, _, _ = relevance(model, x, Rules(linear="epsilon", epsilon=1e-12))
    hidden = model[0](x).detach().requires_grad_()
    out = model[2](model[1](hidden))
    (gradient,) = torch.autograd.grad(out.sum(), hidden)  # R / z is 1 at the logits
    torch.testing.assert_close(found["0.weight"], (gradient * hidden).sum(0).detach(), rtol=1e-4, atol=1e-6)


@given(seeds)
def test_a_batch_norm_counts_as_part_of_its_convolution(seed):
    model, x = residual(seed), drawn(2, 2, 8, 8, seed=seed)
    with torch.no_grad():
        model.norm.weight.normal_()
        model.norm.bias.normal_()
    fused = copy.deepcopy(model)
    fused.stem = torch.nn.utils.fusion.fuse_conv_bn_eval(model.stem, model.norm)
    fused.norm = nn.Identity()
    one, other = (relevance(m, x, Rules("alpha-beta"))[0]["a.weight"] for m in (model, fused))
    torch.testing.assert_close(one, other)


def test_attention_is_gone_through_as_its_products():
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.out = (nn.Linear(4, 4, bias=False) for _ in range(4))

        def forward(self, x):
            y = nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), is_causal=True)
            return self.out(y)

    torch.manual_seed(0)
    model, x = Attend().double(), drawn(2, 3, 4)
    found, out, start = relevance(model, x, Rules(linear="epsilon", epsilon=1e-12))
    torch.testing.assert_close(out.detach(), model(x).detach())
    assert set(found) == {"q.weight", "k.weight", "v.weight", "out.weight"}
    # of the products, half goes to the values
    torch.testing.assert_close(found["v.weight"].sum(), start.sum() / 2, rtol=1e-6, atol=1e-8)


def test_an_operation_without_a_rule_is_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x):
            return torch.cumsum(self.fc(x), 1)

    with pytest.raises(sc.SubjectError, match="cumsum"):
        relevance(Odd().double(), drawn(1, 2))


def test_a_model_may_ask_how_long_its_batch_is():
    class Counting(nn.Sequential):
        def forward(self, x):
            first = self[0](x)
            return self[1](first.reshape(len(first), -1))

    model = Counting(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    found, *_ = relevance(model, drawn(5, 3))
    assert found["0.weight"].shape == (4,)


def task(labels, x=None):
    labels = torch.tensor(labels)
    x = drawn(len(labels), 2, 8, 8).abs() if x is None else x
    return Task(train=[(x, labels)], test=[(x, labels)])


def collected(model, goal, rules):
    space = Channels().find(model, goal.train[0][0])
    stats = collect(model, space.leaves(), (UnitRelevance(rules),), goal, goal.batches())
    return {name: value for (name, _), value in stats.items()}


def test_only_the_first_samples_of_each_class_count():
    model, goal = residual(), task([0, 1, 0, 0, 1, 2])
    x, y = goal.train[0]
    few = [0, 1, 5]
    one = collected(model, goal, Rules(per_class=1))
    other = collected(model, task(y[few].tolist(), x[few]), Rules())
    torch.testing.assert_close(one["a.weight"], other["a.weight"])


def test_relevance_starts_at_the_logit_of_the_class_or_at_one():
    model, goal = residual(), task([0, 1, 2])
    x, y = goal.train[0]
    logits = model(x).detach()[range(3), y]
    assert collected(model, goal, Rules())["stem.weight"].sum().item() == pytest.approx(logits.sum().item(), rel=1e-4)
    assert collected(model, goal, Rules(start="one"))["stem.weight"].sum().item() == pytest.approx(3, rel=1e-4)


def test_the_model_is_as_it_was_afterwards():
    model = residual().train()
    before = copy.deepcopy(model.state_dict())
    collected(model, task([0, 1, 2]), Rules())
    assert model.training and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_frozen_weights_are_judged_as_well():
    model = residual().requires_grad_(False)
    assert collected(model, task([0, 1, 2]), Rules())["stem.weight"].abs().sum() > 0


def test_relevance_that_is_not_finite_is_named():
    model = residual()
    with torch.no_grad():
        model.a.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(sc.NumericsError, match=r"\.weight"):
        collected(model, task([0, 1, 2]), Rules())


def test_targets_that_are_no_classes_are_refused():
    model, x = residual(), drawn(2, 2, 8, 8)
    goal = Task(train=[(x, torch.rand(2))], test=[(x, torch.rand(2))])
    with pytest.raises(sc.SubjectError, match="no classes"):
        collected(model, goal, Rules())


@pytest.mark.parametrize("wrong", [{"alpha": 0.5}, {"epsilon": 0.0}, {"per_class": 0}], ids=str)
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(sc.RecipeError, match="1 or more"):
        Rules(**wrong)


def test_a_vision_transformer_with_a_loss_of_its_own_is_gone_through():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=12,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
        num_labels=2,
    )
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(config).eval()
    batch = {"pixel_values": torch.randn(4, 3, 8, 8), "labels": torch.arange(4) % 2}
    result = sc.prune(model, "lrp", sparsity=0.3, steps=1, include=("*mlp*",), task=Task(train=[batch], test=[batch]))
    assert sum(result.keep.counts.values()) == 20  # of 12 and 16
