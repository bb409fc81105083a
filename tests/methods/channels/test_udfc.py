"""UDFC on small networks: exact cases, what is folded, where the mean goes. The claims are in claims/udfc.py."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import Keep, Stats, registry
from secateur.core.folding import folded
from secateur.recovery import NextLayer
from secateur.recovery.closed_form import mean_after_relu, quantized
from secateur.structures import Channels

seeds = st.integers(0, 2**16)
EXAMPLE = torch.randn(2, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def net(seed=0, bias=True, activation=nn.ReLU, norm=True, kernel=3):
    """Two convolutions with batch norms of random statistics; the second norm takes what has no bias to go to."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),
        nn.BatchNorm2d(6, eps=1e-2) if norm else nn.Identity(),
        activation(),
        nn.Conv2d(6, 3, kernel, bias=bias),
        nn.BatchNorm2d(3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).double()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias)
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
    return model.eval()


def group_of(model):
    return Channels().find(model, EXAMPLE)["0"]


def repaired(model, kept, **settings):
    space = Channels(include=("0",)).find(model, EXAMPLE)
    return NextLayer(**settings).repaired(space, Keep({"0": torch.tensor(kept)}), Stats())


@given(seeds, st.booleans())
def test_folded_filters_and_shifts_give_what_convolution_and_norm_give(seed, norm):
    model = net(seed, norm=norm)
    (maker,) = (m for m in group_of(model).members if m.group.name == "0.weight")
    filters, shifts = folded(maker)
    patches = nn.functional.unfold(EXAMPLE, 3)
    y = (filters @ patches + shifts).reshape(2, 6, 4, 4)
    torch.testing.assert_close(y, model[1](model[0](EXAMPLE)).detach())


def test_the_score_is_the_norm_of_the_folded_filter():
    model = net()
    scale = model[1].weight / (model[1].running_var + 1e-2).sqrt()
    expected = (model[0].weight.flatten(1) * scale[:, None]).norm(dim=1).detach()
    torch.testing.assert_close(registry.get("udfc").recipe().score(group_of(model), Stats()), expected)


def test_a_channel_that_is_a_multiple_of_another_goes_without_loss():
    model = net()
    with torch.no_grad():  # channel 5 gives 0.1 times what channel 2 gives, by other weights and another norm
        model[0].weight[5], model[1].running_mean[5] = model[0].weight[2] * 3, model[1].running_mean[2] * 3
        model[1].running_var[5] = (model[1].running_var[2] + 1e-2) * 9 - 1e-2
        model[1].weight[5], model[1].bias[5] = model[1].weight[2] * 0.1, model[1].bias[2] * 0.1
    before = model(EXAMPLE).detach()
    result = sc.prune(model, "udfc", sparsity=1 / 6, lam2=0.0, include=("0",), example=EXAMPLE)
    assert not result.keep["0"][5]
    torch.testing.assert_close(result.subject(EXAMPLE).detach(), before, rtol=1e-7, atol=1e-7)


@given(seeds, st.booleans())
def test_columns_and_bias_equal_the_formulas_written_as_loops(seed, bias):
    model, kept = net(seed, bias), [True, True, False, True, False, True]
    values = repaired(model, kept, lam1=0.3, lam2=0.2)
    scale = (model[1].weight / (model[1].running_var + 1e-2).sqrt()).detach()
    v, b = (
        model[0].weight.detach().flatten(1) * scale[:, None],
        (model[1].bias - model[1].running_mean * scale).detach(),
    )
    E = mean_after_relu(model[1].bias.detach(), model[1].weight.detach())
    U = model[3].weight.detach().clone()
    K, shift = [i for i, k in enumerate(kept) if k], torch.zeros(3, dtype=torch.float64)
    for j in (2, 4):
        V = v[K]
        A = V @ V.T + 0.3 * b[K][:, None] * b[K][None] + 0.2 * torch.eye(4)
        s = torch.linalg.solve(A, V @ v[j] + 0.3 * b[K] * b[j])
        for i, weight in zip(K, s, strict=True):
            U[:, i] += weight * model[3].weight.detach()[:, j]
        shift += (E[j] - s @ E[K]) * model[3].weight.detach()[:, j].sum((1, 2))
    U[:, [2, 4]] = 0
    torch.testing.assert_close(values["3.weight"], U)
    if bias:
        torch.testing.assert_close(values["3.bias"], model[3].bias.detach() + shift)
    else:
        torch.testing.assert_close(values["4.running_mean"], model[4].running_mean - shift)
    assert set(values) == {"3.weight", "3.bias" if bias else "4.running_mean"}


@pytest.mark.parametrize("activation", [nn.SiLU, nn.ReLU6])
def test_other_activations_get_no_mean_that_is_not_theirs(activation):
    assert set(repaired(net(activation=activation), [True] * 5 + [False])) == {"3.weight"}


def test_relu_in_place_is_a_relu_all_the_same():
    model = net()
    other = net(activation=lambda: nn.ReLU(inplace=True))
    kept = [True] * 5 + [False]
    torch.testing.assert_close(repaired(other, kept)["3.bias"], repaired(model, kept)["3.bias"])


def test_a_pooling_in_between_keeps_the_mean_from_the_bias():
    model = net(kernel=1)
    pooled = nn.Sequential(*model[:3], nn.MaxPool2d(2), *model[3:])
    space = Channels(include=("0",)).find(pooled, EXAMPLE)
    assert set(NextLayer().repaired(space, Keep({"0": torch.arange(6) > 0}), Stats())) == {"4.weight"}


def test_what_stays_whole_is_not_touched():
    assert not repaired(net(), [True] * 6)


def test_producers_stay_as_they_are_without_quantisation():
    assert "0.weight" not in repaired(net(), [False] + [True] * 5)


def test_without_batch_norm_it_says_so_and_shifts_do_not_count(caplog):
    model = net(norm=False)
    with caplog.at_level(logging.WARNING):
        values = repaired(model, [True] * 5 + [False], lam1=5.0)
    assert "no batch norm" in caplog.text
    torch.testing.assert_close(values["3.weight"], repaired(model, [True] * 5 + [False], lam1=0.0)["3.weight"])


def test_every_weight_that_makes_or_reads_is_quantised():
    values = repaired(net(), [True] * 5 + [False], bits=4)
    for name in ("0.weight", "3.weight"):
        torch.testing.assert_close(quantized(values[name], 4), values[name], rtol=1e-9, atol=1e-9)


def test_readers_make_up_for_what_quantising_lost():
    model, kept = net(), [True] * 6
    values = repaired(model, kept, bits=2, lam2=1e-6)
    coarse = quantized(model[0].weight.detach(), 2)
    torch.testing.assert_close(values["0.weight"], coarse)
    assert not torch.allclose(values["3.weight"], quantized(model[3].weight.detach(), 2))


def test_of_several_writers_one_combination_serves_all():
    class Two(nn.Module):
        """Channel 3 is a tenth of channel 1 in both layers that make the sum."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(2, 4, 1, bias=False), nn.Conv2d(2, 4, 1, bias=False)
            self.head = nn.Conv2d(4, 2, 1)
            with torch.no_grad():
                for layer in (self.a, self.b):
                    layer.weight[3] = 0.1 * layer.weight[1]

        def forward(self, x):
            return self.head(torch.relu(self.a(x) + self.b(x)))

    model = Two().double().eval()
    before = model(EXAMPLE).detach()
    result = sc.prune(model, "udfc", sparsity=0.25, lam2=0.0, example=EXAMPLE)
    assert result.keep["a"].tolist() == [True, True, True, False]
    torch.testing.assert_close(result.subject(EXAMPLE).detach(), before, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_outside_their_range_are_refused(bits):
    with pytest.raises(sc.RecipeError, match="2 to 8"):
        NextLayer(bits=bits)
