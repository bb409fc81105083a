"""Batch-norm recalibration, against statistics computed by hand."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from secateur.core import RecipeError, Task
from secateur.recovery import RecalibrateBN, recalibrate_bn_


def net():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Dropout(0.9), nn.BatchNorm1d(4, momentum=0.3), nn.ReLU(), nn.BatchNorm1d(4)
    )
    model[2].running_mean.fill_(7.0)
    model[4].eval()
    return model


def batches():
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 3, generator=g), torch.zeros(n, dtype=torch.long)) for n in (8, 4, 6)]


TASK = Task(train=batches(), test=batches())


def test_statistics_are_the_average_over_all_batches_without_dropout():
    model = net()
    inner = [model[0](x).detach() for x, _ in batches()]
    assert recalibrate_bn_(model, batches(), TASK) == 3
    torch.testing.assert_close(model[2].running_mean, torch.stack([y.mean(0) for y in inner]).mean(0))
    torch.testing.assert_close(model[2].running_var, torch.stack([y.var(0) for y in inner]).mean(0))


def test_a_later_norm_sees_what_the_earlier_one_gives_for_the_batch():
    model = net()
    outer = []
    for x, _ in batches():
        y = model[0](x).detach()
        normed = (y - y.mean(0)) / (y.var(0, correction=0) + model[2].eps).sqrt()
        outer.append(normed.relu())
    recalibrate_bn_(model, batches(), TASK)
    torch.testing.assert_close(model[4].running_mean, torch.stack([y.mean(0) for y in outer]).mean(0))


def test_weights_momentum_and_modes_are_as_before():
    model = net()
    weights = copy.deepcopy(dict(model.named_parameters()))
    recalibrate_bn_(model, batches(), TASK)
    assert (model[2].momentum, model[4].momentum) == (0.3, 0.1)
    assert [m.training for m in model] == [True, True, True, True, False] and model.training
    assert all(torch.equal(p, weights[n]) and p.grad is None for n, p in model.named_parameters())


def test_doing_it_twice_gives_the_same():
    model = net()
    recalibrate_bn_(model, batches(), TASK)
    first = model[2].running_var.clone()
    recalibrate_bn_(model, batches(), TASK)
    assert torch.equal(model[2].running_var, first)


def test_without_a_batch_the_old_statistics_stay():
    model = net()
    with pytest.raises(RecipeError, match="no batch to measure"):
        recalibrate_bn_(model, [], TASK)
    assert (model[2].running_mean == 7).all() and model[2].momentum == 0.3


@pytest.mark.parametrize(
    "model", [nn.Linear(3, 4), nn.BatchNorm1d(3, track_running_stats=False)], ids=["no norm", "no statistics"]
)
def test_a_model_without_statistics_reads_no_batch(model):
    assert recalibrate_bn_(model, iter(()), TASK) == 0


def test_modes_are_put_back_after_an_error():
    model = net()
    with pytest.raises(RuntimeError):
        recalibrate_bn_(model, [(torch.zeros(2, 5),)], TASK)
    assert [m.training for m in model] == [True, True, True, True, False] and model[2].momentum == 0.3


@pytest.mark.parametrize("fraction, used", [(0.2, 2), (1.0, 10), (0.01, 1)])
def test_the_phase_at_the_end_reads_its_share_of_the_training_data(fraction, used):
    data = TensorDataset(torch.randn(40, 3), torch.zeros(40, dtype=torch.long))
    task, model = Task(train=data, test=data, batch_size=4), net()
    work = RecalibrateBN(fraction).begin(model, task)
    assert (model[2].running_mean == 7).all()
    work.finish_()
    assert model[2].num_batches_tracked == used


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(RecipeError, match="above 0, at most 1"):
        RecalibrateBN(fraction)


def test_a_batch_that_fails_midway_leaves_the_old_statistics():
    model = nn.Sequential(nn.BatchNorm1d(3))
    model[0].running_mean.fill_(7.0)
    task = Task(train=[], test=[])
    broken = [(torch.randn(4, 3), None), (torch.randn(4, 5), None)]  # the second does not fit
    with pytest.raises(RuntimeError):
        recalibrate_bn_(model, broken, task)
    assert model[0].running_mean.tolist() == [7.0, 7.0, 7.0] and int(model[0].num_batches_tracked) == 0
