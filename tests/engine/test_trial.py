"""Trials: what a keep is worth, on a copy, on data that is no test data."""

import copy

import torch
from torch import nn

import secateur as sc
from secateur.core import Keep
from secateur.engine.trial import MeasuredTrial, unproven
from secateur.structures import Channels, Weights

X = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def task(**options):
    labels = net()(X).argmax(1)
    batch = (X, labels)
    return sc.Task(train=[batch], test=[(X, 1 - labels)], **options)


def test_everything_is_worth_what_the_model_is_on_training_data():
    trial = MeasuredTrial(net(), Weights(), task(), 1)
    assert trial(Keep.all(Weights().find(net()))) == 1.0


def test_valid_data_comes_before_training_data_and_less_is_better_is_turned():
    wrong = (X, 1 - net()(X).argmax(1))
    keep = Keep.all(Weights().find(net()))
    assert MeasuredTrial(net(), Weights(), task(valid=[wrong]), 1)(keep) == 0.0
    assert MeasuredTrial(net(), Weights(), task(metrics={}), 1)(keep) < 0


def test_a_cut_is_tried_on_a_copy_and_equals_the_real_one():
    model, structure = net(), Channels().seeing(lambda m: m(X[:2]))
    before = copy.deepcopy(model.state_dict())
    keep = Keep({"0": torch.tensor([True, False, True, True])})
    found = MeasuredTrial(model, structure, task(metrics={}), 1)(keep)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    cut, _ = structure.apply_(copy.deepcopy(model), sc.core.Choice(keep))
    labels = task().train[0][1]
    assert abs(found + float(nn.functional.cross_entropy(cut(X), labels).detach())) < 1e-6


def test_the_same_keep_is_measured_once():
    calls = []

    def counted(model, batch):
        calls.append(1)
        return model(batch[0])

    trial = MeasuredTrial(net(), Weights(), task(call=counted), 1)
    keep = Keep.all(Weights().find(net()))
    assert trial(keep) == trial(keep) and len(calls) == 1


def test_batch_norms_are_measured_anew_where_the_recipe_will():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    model[1].running_mean.fill_(50.0)
    keep = Keep.all(Weights().find(model))
    plain, anew = (MeasuredTrial(model, Weights(), task(metrics={}), 1, r)(keep) for r in (False, True))
    assert anew > plain + 1 and bool((model[1].running_mean == 50).all())


def test_a_structure_without_proofs_still_sees_its_example():
    structure = Channels(floor=2).seeing(lambda m: m(X[:2]))
    plain = unproven(structure)
    assert not plain.verify and plain.floor == 2 and len(plain.find(net())) == 1
    assert unproven(Weights()) == Weights()


def test_what_was_seen_of_the_model_serves_its_copy(monkeypatch):
    from secateur.tasks.models import CifarResNet

    torch.manual_seed(0)
    model, x = CifarResNet(8, 4).eval(), torch.randn(2, 3, 16, 16)
    structure = Channels(verify=False).seeing(lambda m: m(x))
    space = structure.find(model)
    keep = Keep({**Keep.all(space).masks, "layer2.0.conv1": torch.arange(8) > 2})
    plain, _ = structure.apply_(copy.deepcopy(model), sc.core.Choice(keep))
    monkeypatch.setattr(structure._sight, "_look", None)
    twin = copy.deepcopy(model)
    structure._sight.adopt(model, twin)
    cut, _ = structure.apply_(twin, sc.core.Choice(keep))
    torch.testing.assert_close(cut(x), plain(x))
