"""Scores: the formula as loops, and the model untouched."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.calibration import collect
from secateur.core import Gradient, Group, RecipeError, Site, Stats, Task
from secateur.scores import Custom, GradientMagnitude, Magnitude, Random, Taylor
from secateur.scores.gradients import gradient_magnitude, taylor
from secateur.structures import Blocks, Weights

sizes, seeds = st.integers(1, 6), st.integers(0, 2**16)


def draw(rows, cols, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=g), torch.randn(rows, cols, generator=g)


def loops(formula, *matrices):
    rows, cols = matrices[0].shape
    return torch.tensor([[formula(*(m[i, j].item() for m in matrices)) for j in range(cols)] for i in range(rows)])


@given(sizes, sizes, seeds)
def test_magnitude_is_the_absolute_weight(rows, cols, seed):
    w, _ = draw(rows, cols, seed)
    score = Magnitude()(Group("w", w.shape, site=Site("w", w)), Stats())
    torch.testing.assert_close(score, loops(abs, w))


@given(sizes, sizes, seeds)
def test_taylor_is_the_absolute_product_of_weight_and_gradient(rows, cols, seed):
    w, g = draw(rows, cols, seed)
    torch.testing.assert_close(taylor(w, g), loops(lambda a, b: abs(a * b), w, g))


@given(sizes, sizes, seeds)
def test_gradient_magnitude_does_not_look_at_the_weight(rows, cols, seed):
    w, g = draw(rows, cols, seed)
    assert torch.equal(gradient_magnitude(w, g), gradient_magnitude(w * 2, g))
    torch.testing.assert_close(gradient_magnitude(w, g), loops(abs, g))


@pytest.mark.parametrize(
    "score", [Magnitude(), Taylor(), GradientMagnitude(), Custom(torch.square)], ids=lambda part: type(part).__name__
)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), seeds)
def test_the_score_of_a_block_is_the_sum_over_its_weights(score, a, b, r, c, seed):
    w, g = draw(a * r, b * c, seed)
    single, block = Site("w", w), Site("w", w, tile=(r, c))
    stats = Stats({("w", Gradient()): g})
    whole, parts = (score(Group("w", s.shape, site=s), stats) for s in (block, single))
    torch.testing.assert_close(whole, block.pool(parts))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4)
        self.up, self.fc = nn.ConvTranspose2d(4, 2, 2), nn.Linear(18, 4)
        self.dropout = nn.Dropout()
        self.bn.eval()

    def forward(self, x):
        return self.fc(self.dropout(self.up(torch.relu(self.bn(self.conv(x))))).flatten(1))


def batches(sizes=(5, 2, 3)):
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 2, 3, 3, generator=g), torch.randint(4, (n,), generator=g)) for n in sizes]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def scored(score, net, structure=Weights(), data=None):
    data = batches() if data is None else data
    space = structure.find(net)
    stats = Stats(collect(net, space, score.needs, Task(train=data, test=data), data) if score.needs else {}, seed=4)
    return {g.name: score(g, stats) for g in space}


def test_taylor_is_that_of_the_mean_loss_over_all_samples(net):
    """One pass over the concatenated data is what batches of different sizes must add up to, signs and all."""
    twin = copy.deepcopy(net).eval()
    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    nn.functional.cross_entropy(twin(x), y).backward()
    for name, score in scored(Taylor(), net).items():
        parameter = twin.get_parameter(name)
        by_hand = (parameter.detach() * parameter.grad).abs()
        torch.testing.assert_close(score.flatten().sort().values, by_hand.flatten().sort().values)
    torch.testing.assert_close(
        scored(Taylor(), net)["fc.weight"], (twin.fc.weight * twin.fc.weight.grad).detach().abs()
    )


def test_gradients_of_a_transposed_convolution_are_scored_in_the_layout_of_its_weight(net):
    twin = copy.deepcopy(net).eval()
    x, y = (torch.cat(parts) for parts in zip(*batches(), strict=True))
    nn.functional.cross_entropy(twin(x), y).backward()
    by_hand = twin.up.weight.grad.abs().transpose(0, 1).flatten(1)
    torch.testing.assert_close(scored(GradientMagnitude(), net)["up.weight"], by_hand)


def test_taylor_is_the_change_of_the_loss_for_a_small_step_towards_zero(net):
    net.double()
    data = [(x.double(), y) for x, y in batches()]
    score = scored(Taylor(), net, data=data)["fc.weight"]
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))
    net.eval()

    def loss():
        return nn.functional.cross_entropy(net(x), y).item()

    for i, j in [(0, 0), (1, 5), (3, 17)]:
        with torch.no_grad():
            weight = net.fc.weight[i, j].item()
            net.fc.weight[i, j] = weight * (1 + 1e-4)
            above = loss()
            net.fc.weight[i, j] = weight * (1 - 1e-4)
            below = loss()
            net.fc.weight[i, j] = weight
        assert score[i, j].item() == pytest.approx(abs(above - below) / 2e-4, rel=1e-4)


@pytest.mark.parametrize(
    "score",
    [Magnitude(), Taylor(), GradientMagnitude(), Random(), Custom(torch.abs)],
    ids=lambda part: type(part).__name__,
)
@pytest.mark.parametrize("structure", [Weights(), Blocks(2, 2)], ids=lambda part: type(part).__name__)
def test_scores_leave_the_model_untouched(score, structure, net):
    net.fc.weight.grad = torch.ones_like(net.fc.weight)
    net.up.bias.requires_grad_(False)
    state, rng = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    scored(score, net, structure)
    torch.testing.assert_close(dict(net.state_dict()), dict(state), rtol=0, atol=0)
    assert torch.equal(net.fc.weight.grad, torch.ones_like(net.fc.weight)) and net.conv.weight.grad is None
    assert [net.training, net.bn.training, net.dropout.training] == [True, False, True]
    assert not net.up.bias.requires_grad and net.fc.weight.requires_grad
    assert torch.equal(torch.get_rng_state(), rng)


@pytest.mark.parametrize(
    "score", [Magnitude(), Taylor(), GradientMagnitude(), Random()], ids=lambda part: type(part).__name__
)
def test_scores_of_a_bfloat16_model_are_float32(score, net):
    data = [(x.bfloat16(), y) for x, y in batches()]
    for name, values in scored(score, net.bfloat16(), data=data).items():
        assert values.dtype == torch.float32, name


def test_changing_a_score_does_not_change_the_weight():
    w = torch.ones(2, 2)
    Custom(lambda weight: weight)(Group("w", (2, 2), site=Site("w", w)), Stats()).zero_()
    assert w.all()


def test_a_formula_that_writes_into_its_argument_does_not_change_the_weight():
    w = torch.ones(2, 2)
    Custom(lambda weight: weight.mul_(0))(Group("w", (2, 2), site=Site("w", w)), Stats())
    assert w.all()


def test_a_formula_that_gives_another_shape_is_refused_with_both():
    group = Group("w", (2, 3), site=Site("w", torch.ones(2, 3)))
    with pytest.raises(RecipeError, match=r"\(2,\) for weights of \(2, 3\)"):
        Custom(lambda weight: weight.sum(1))(group, Stats())


def random_score(name="a", shape=(3, 4), seed=0):
    return Random()(Group(name, shape), Stats(seed=seed))


def test_random_depends_on_seed_and_name_only():
    same = random_score()
    torch.rand(5)
    assert torch.equal(random_score(), same)
    assert not torch.equal(random_score(seed=1), same) and not torch.equal(random_score("b"), same)


def test_random_has_one_value_per_unit_and_no_ties_to_speak_of():
    values = random_score(shape=(50, 50))
    assert values.shape == (50, 50) and len(values.unique()) > 2490
