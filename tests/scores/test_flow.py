"""SNIP, GraSP and CroP: the formulas as loops, which way gradients go, and every structure."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import BalancedGradient, Group, HessianGradient, Site, Stats
from secateur.scores import Crop, Grasp, Snip
from secateur.scores.coupled import normalized
from secateur.scores.flow import crop, grasp
from secateur.tasks.digits import Images
from secateur.tasks.models import CifarResNet

sizes, seeds = st.integers(1, 6), st.integers(0, 2**16)
SCORES = [Snip(), Grasp(), Crop()]


def draw(rows, cols, seed):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, cols, generator=g), torch.randn(rows, cols, generator=g)


@given(sizes, sizes, seeds)
def test_the_formulas_written_as_loops(rows, cols, seed):
    w, d = draw(rows, cols, seed)
    group = Group("w", w.shape, site=Site("w", w))
    stats = Stats({("w", BalancedGradient()): d, ("w", HessianGradient()): d, ("w", Crop().needs[0]): d})
    for score, formula in ((Snip(), abs), (Grasp(), float), (Crop(), abs)):
        slow = torch.tensor([[formula(w[i, j].item() * d[i, j].item()) for j in range(cols)] for i in range(rows)])
        torch.testing.assert_close(score(group, stats), slow)


@given(sizes, sizes, seeds)
def test_crop_is_grasp_without_its_sign(rows, cols, seed):
    w, d = draw(rows, cols, seed)
    assert torch.equal(crop(w, d), grasp(w, d).abs())


def images(seed=0, n=60):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 8, generator=g) * 2
    y = torch.arange(n) % 3
    return centres[y] + torch.randn(n, 8, generator=g), y


def gradient_norm(model, x, y, temperature):
    weights = [p for p in model.parameters() if p.dim() > 1]
    loss = nn.functional.cross_entropy(model(x) / temperature, y)
    return float(sum(g.square().sum() for g in torch.autograd.grad(loss, weights)).sqrt())


@pytest.mark.parametrize("seed", range(8))
def test_without_its_lowest_weights_the_gradient_is_larger_than_without_its_highest(seed):
    """The direction of GraSP, which is easily turned round: a fifth of the weights go from either end."""
    x, y = images(seed)
    norms = {}
    for end in (1, -1):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
        data = [(x, y)]
        task = sc.Task(train=data, test=data)
        grasp_at = Grasp(sc.core.Balanced(per_class=20, temperature=200.0))
        space = sc.structures.Weights().find(model)
        stats = Stats(sc.calibration.collect(model, space, grasp_at.needs, task, data))
        flat = torch.cat([end * grasp_at(group, stats).flatten() for group in space])
        least = flat.sort().values[len(flat) // 5]
        with torch.no_grad():
            for group in space:
                group.site.tensor[(end * grasp_at(group, stats) < least).reshape(group.site.tensor.shape)] = 0
        norms[end] = gradient_norm(model, x, y, 200.0)
    assert norms[1] > norms[-1]


@pytest.mark.parametrize("score", SCORES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("structure", ["weights", "channels", "layers"])
def test_every_structure_takes_them(score, structure):
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    data = Images(torch.randn(40, 3, 8, 8, generator=g), torch.arange(40) % 10)
    task = sc.Task(train=data, test=data, batch_size=20)
    recipe = sc.Recipe(sc.structures.structure(structure), score, budget=sc.budgets.Global())
    result = sc.prune(CifarResNet(20, 4), recipe, sparsity=0.3, task=task, device="cpu")
    assert result.keep.sparsity == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize("how", ["mean", "max", "sum"])
@given(st.lists(st.floats(-5, 5).filter(lambda v: abs(v) > 1e-3), min_size=1, max_size=6))
def test_scaling_by_the_group_keeps_signs_and_order(how, values):
    score = torch.tensor(values, dtype=torch.float64)
    found = normalized(score, how)
    assert torch.equal(found.sign(), score.sign())
    assert float(found.abs().max()) <= len(values) + 1e-9
    torch.testing.assert_close(normalized(score.abs(), how), found.abs())


def test_parts_are_named_as_the_field_does():
    assert {"snip", "grasp", "crop"} <= set(sc.core.parts_of(sc.scores))
