"""Compensation by biases: constants go without loss, means stay, biases are made, stored and found again."""

import logging

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import AddBias, Plan
from secateur.core.progress import showing
from secateur.recovery import BiasCompensation
from secateur.structures import Channels

X = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MAPS = torch.randn(6, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Some(sc.core.Score):
    """The listed units score lowest, in every group."""

    def __init__(self, gone):
        self.gone = gone

    def __call__(self, group, stats):
        return torch.ones(group.shape).index_fill(0, torch.tensor(self.gone), 0.0)


def task(x=X):
    return sc.Task(train=sc.tasks.digits.Images(x, torch.zeros(len(x), dtype=torch.long)), test=x, batch_size=4)


def cut(model, gone, x=X, recovery=(BiasCompensation(),), include=("0",)):
    recipe = sc.Recipe(Channels(include), Some(gone), budget=sc.budgets.Exactly(len(gone)), recovery=recovery)
    goal = sc.tasks.digits.Images(x, torch.zeros(len(x), dtype=torch.long))
    return sc.prune(model, recipe, task=sc.Task(train=goal, test=goal, batch_size=4), example=x)


def mlp(bias=False, constant=()):
    """Hidden units listed in `constant` give the same whatever comes in."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4, bias=bias)).double()
    with torch.no_grad():
        model[0].weight[list(constant)] = 0
    return model.eval()


@pytest.mark.parametrize("bias", [True, False])
def test_units_that_are_constant_go_without_any_change(bias):
    model = mlp(bias, constant=(1, 4))
    before = model(X).detach()
    result = cut(model, (1, 4))
    assert result.keep["0"].tolist() == [True, False, True, True, False, True]
    torch.testing.assert_close(result.subject(X).detach(), before)


@pytest.mark.parametrize("bias", [True, False])
def test_the_mean_of_the_outputs_stays_and_without_it_does_not(bias):
    before = mlp(bias)(X).detach().mean(0)
    torch.testing.assert_close(cut(mlp(bias), (0, 2)).subject(X).detach().mean(0), before)
    assert not torch.allclose(cut(mlp(bias), (0, 2), recovery=()).subject(X).detach().mean(0), before)


def test_the_bias_is_the_formula_written_as_loops():
    model = mlp()
    hidden, W = model[1](model[0](X)).detach(), model[2].weight.detach().clone()
    slow = torch.tensor([sum(W[i, j] * hidden[:, j].mean() for j in (0, 2)) for i in range(4)], dtype=torch.float64)
    torch.testing.assert_close(cut(model, (0, 2)).subject[2].bias.detach(), slow)


def conv(last):
    torch.manual_seed(0)
    ends = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, 2, bias=False), *last, *ends).double().eval()


def test_a_convolution_gets_a_bias_and_its_mean_stays():
    model = conv([])
    before = model(MAPS).detach().mean(0)
    result = cut(model, (1, 3), MAPS)
    assert result.plan.actions[0] == AddBias("2.bias") and result.subject[2].bias.shape == (3,)
    torch.testing.assert_close(result.subject(MAPS).detach().mean(0), before)


def test_a_batch_norm_behind_takes_the_mean_instead_of_a_new_bias():
    model = conv([nn.BatchNorm2d(3)])
    model[3].running_mean.normal_()
    before = model(MAPS).detach().mean(0)
    result = cut(model, (1, 3), MAPS)
    assert result.subject[2].bias is None
    torch.testing.assert_close(result.subject(MAPS).detach().mean(0), before)


def test_what_stays_whole_gets_no_bias():
    result = cut(mlp(), (0,), include=("0",))
    plain = sc.prune(mlp(), sc.Recipe(Channels(), Some((0,)), budget=sc.budgets.Exactly(1)), example=X)
    assert result.subject[2].bias is not None and plain.subject[2].bias is None


def test_a_bias_is_rounded_once_into_the_dtype_of_the_model():
    model = mlp().bfloat16()
    exact = cut(mlp(), (0, 2)).subject[2].bias.detach()
    rounded = cut(model, (0, 2), X.bfloat16()).subject[2].bias.detach()
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.double(), exact, rtol=2e-2, atol=2e-2)


def test_a_loaded_model_has_the_bias(tmp_path):
    result = cut(mlp(), (0, 2))
    loaded = sc.load(result.save(tmp_path / "cut"))
    assert torch.equal(loaded(X), result.subject(X))
    assert Plan.from_json(result.plan.to_json()) == result.plan


def test_two_rounds_add_up():
    model = mlp(constant=(1, 4))
    before = model(X).detach()
    once = cut(model, (1,)).subject
    with torch.no_grad():
        torch.testing.assert_close(once(X), before)
    twice = cut(once, (3,))  # what was unit 4
    torch.testing.assert_close(twice.subject(X).detach(), before)
    assert not any(isinstance(a, AddBias) for a in twice.plan.actions)


def test_a_cut_that_fails_takes_its_bias_with_it(monkeypatch):
    def fails(*_args, **_more):
        raise sc.NumericsError("no", where="here", mend="not")

    model = mlp()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    monkeypatch.setattr("secateur.structures.channels.proven_cut_", fails)
    with pytest.raises(sc.NumericsError):
        cut(model, (0, 2))
    assert model.state_dict().keys() == before.keys() and model[2].bias is None
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_a_layer_that_runs_twice_is_left_out_with_a_warning(caplog):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(3, 6), nn.Linear(6, 3, bias=False)

        def forward(self, x):
            for _ in range(2):
                x = self.down(torch.tanh(self.up(x)))
            return x

    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING):
        result = cut(Twice().double().eval(), (0,), include=("up",))
    assert result.subject.down.bias is None and "not compensated" in caplog.text


def test_training_afterwards_trains_the_new_bias():
    y = torch.randint(4, (len(X),), generator=torch.Generator().manual_seed(0))
    data = sc.tasks.digits.Images(X, y)
    goal = sc.Task(train=data, test=data, batch_size=4, training=sc.Training(epochs=1, lr=1e-1))
    recovery = (BiasCompensation(), sc.recovery.FineTune(epochs=1))
    recipe = sc.Recipe(Channels(("0",)), Some((0,)), budget=sc.budgets.Exactly(1), recovery=recovery)
    model = mlp()
    alone = cut(mlp(), (0,)).subject[2].bias.detach()
    assert not torch.allclose(sc.prune(model, recipe, task=goal, example=X).subject[2].bias.detach(), alone)


def trained(schedule, **options):
    y = torch.randint(4, (len(X),), generator=torch.Generator().manual_seed(0))
    data = sc.tasks.digits.Images(X, y)
    goal = sc.Task(train=data, test=data, batch_size=4, training=sc.Training(epochs=1, lr=1e-2))
    recovery = (BiasCompensation(), sc.recovery.FineTune(epochs=1))
    recipe = sc.Recipe(Channels(("0",)), Some((0,)), budget=sc.budgets.Exactly(1), schedule=schedule, recovery=recovery)
    return sc.prune(mlp(), recipe, task=goal, example=X, device="cpu", **options)


@pytest.mark.parametrize("schedule", [sc.schedules.OneShot(), sc.schedules.Rewinding(None, to=1)])
def test_a_run_that_is_killed_at_every_other_step_ends_with_the_same_bias(schedule, tmp_path):
    unbroken = trained(schedule).subject.state_dict()

    def once(title, *_):
        once.left -= title == "recipe"  # a step of training
        if once.left == 0:
            raise KeyboardInterrupt

    result = None
    for _ in range(20):
        once.left = 2
        try:
            with showing(once):
                result = trained(schedule, run=tmp_path / "run", save_every_s=0.0)
            break
        except KeyboardInterrupt:
            continue
    assert result is not None and unbroken["2.bias"].shape == (4,)
    assert all(torch.equal(v, result.subject.state_dict()[k]) for k, v in unbroken.items())
