"""Group-norm sparse training, against gradients written by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import Group, Member, Site
from secateur.recovery import FineTune, GroupSparsity
from secateur.recovery.group_sparsity import growth
from secateur.recovery.sparse_training import along
from secateur.schedules import OneShot
from secateur.scores import Coupled, Magnitude, Taylor
from secateur.structures import Channels

values = st.lists(st.floats(0, 100, width=32), min_size=1, max_size=8).map(torch.tensor)
REG, ALPHA = 0.01, 16.0


@given(values)
def test_growth_is_one_for_the_best_unit_and_alpha_for_the_worst(importance):
    gamma = growth(importance, ALPHA)
    assert gamma[importance.argmax()] == 1 and ((gamma >= 1) & (gamma <= ALPHA * 1.0001)).all()
    if importance.amax() > importance.amin():
        assert gamma[importance.argmin()] == pytest.approx(ALPHA)


@given(values, st.floats(0.5, 8))
def test_growth_does_not_see_the_scale_of_importance(importance, scale):
    torch.testing.assert_close(growth(importance.double() * scale, ALPHA), growth(importance.double(), ALPHA))


def test_equal_units_all_grow_by_one():
    assert growth(torch.full((3,), 0.7), ALPHA).tolist() == [1, 1, 1]


def test_every_position_of_a_unit_gets_its_value_and_others_none():
    site = Site("weight", torch.ones(2, 6), axes=(1, 0), tile=(1, 2))
    member = Member(Group("weight", site.shape, site=site), 1, torch.tensor([[4, 1], [0, 3]]), frozenset())
    assert along(torch.tensor([2.0, 5.0]), member).tolist() == [[5, 2, 0, 5, 2, 0]]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def task():
    g = torch.Generator().manual_seed(0)
    batches = [(torch.randn(4, 1, 2, 2, generator=g), torch.randint(2, (4,), generator=g)) for _ in range(2)]
    return sc.Task(train=batches, test=batches, training=sc.Training(epochs=1, lr=1e-3))


def recovery(epochs=1.0):
    return GroupSparsity(Channels(), Coupled(Magnitude(2)), epochs, REG, ALPHA)


def with_gradients(model):
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    return model


def test_the_gradient_of_every_slice_is_that_of_the_formula():
    model = with_gradients(net())
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.3, 1.0, 2.0]))
    recovery().begin(model, task()).before_step_()
    conv, norm, linear = model[0].weight, model[1].weight, model[3].weight
    columns = [slice(4 * k, 4 * k + 4) for k in range(3)]
    score = [(conv[k].pow(2).sum() + norm[k] ** 2 + linear[:, columns[k]].pow(2).sum()).item() / 3 for k in range(3)]
    root = [s**0.5 for s in score]
    for k in range(3):
        gamma = ALPHA ** ((max(root) - root[k]) / (max(root) - min(root)))
        torch.testing.assert_close(conv.grad[k], 1 + REG * gamma * conv.detach()[k])
        torch.testing.assert_close(norm.grad[k], 1 + REG * gamma * norm.detach()[k])
        torch.testing.assert_close(linear.grad[:, columns[k]], 1 + REG * gamma * linear.detach()[:, columns[k]])
    biases = (model[0].bias, model[1].bias, model[3].bias)
    assert all(torch.equal(b.grad, torch.ones_like(b)) for b in biases)


def test_it_ends_after_its_epochs_and_goes_on_where_it_stopped():
    model = net()
    healing = recovery(epochs=1.0).begin(model, task())
    healing.restore({"step": torch.tensor(1)})
    with_gradients(model)
    healing.before_step_()
    assert not torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    with_gradients(model)
    healing.before_step_()
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert int(healing.state()["step"]) == 3


def test_no_decay_leaves_the_gradient_alone():
    model = with_gradients(net())
    GroupSparsity(Channels(), Coupled(Magnitude(2)), 1, 0.0).begin(model, task()).before_step_()
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())


def test_it_trains_before_the_cut_and_not_after():
    recipe = sc.Recipe(
        structure=Channels(),
        score=Coupled(Magnitude(2)),
        schedule=OneShot("1 epoch"),
        recovery=(FineTune(epochs=2), recovery(epochs=1)),
    )
    result = sc.prune(net(), recipe, sparsity=0.34, task=task(), device="cpu")
    assert result.keep.counts == {"0": 2} and result.history[0]["step"] == 2


@pytest.mark.parametrize("wrong", [{"epochs": -1}, {"reg": -1.0}, {"alpha": 0.5}])
def test_a_setting_outside_its_range_says_how_to_mend_it(wrong):
    with pytest.raises(sc.RecipeError, match="alpha=16"):
        GroupSparsity(Channels(), Magnitude(2), **{"epochs": 1.0, **wrong})


def test_a_score_that_reads_data_is_refused():
    with pytest.raises(sc.RecipeError, match="Coupled reads data"):
        GroupSparsity(Channels(), Coupled(Taylor()), 1)
