"""Rewinding what survives a cut: for layers and for channels, through a kill at any step."""

import copy

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core.progress import showing
from secateur.schedules import Rewinding
from secateur.tasks.digits import Images


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.norm = nn.Linear(12, 12), nn.BatchNorm1d(12)

    def forward(self, x):
        return torch.relu(x + self.norm(self.inner(x)))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Sequential(*(Residual() for _ in range(4))), nn.Linear(12, 3))


def task():
    g = torch.Generator().manual_seed(0)
    data = Images(torch.randn(32, 6, generator=g), torch.arange(32) % 3)
    return sc.Task(train=data, test=data, batch_size=8, training=sc.Training(epochs=1, optimizer="sgd", lr=0.05))


STRUCTURES = {"layers": sc.structures.Layers(), "channels": sc.structures.Channels()}


def prune(kind, model=None, **options):
    recipe = sc.Recipe(
        structure=STRUCTURES[kind],
        score=sc.scores.Taylor(),
        budget=sc.budgets.Global(),
        schedule=Rewinding(None, to=2),
        recovery=(sc.recovery.FineTune(),),
    )
    return sc.prune(net() if model is None else model, recipe, sparsity=0.5, task=task(), device="cpu", **options)


class Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize("kind", STRUCTURES)
def test_what_survives_has_the_values_of_then(kind, monkeypatch):
    """At the moment of rewinding, the cut subject is the early one under the same cut."""
    from secateur.engine.training import Trainer

    early, at_rewind = {}, {}
    snapshot, rewind = Trainer._snapshot_if_wanted, Trainer._rewind

    def remember(self):
        if self.leg == 0 and self.position == 2 and not early:
            early["model"] = copy.deepcopy(self.model)
        snapshot(self)

    def look(self, to):
        rewind(self, to)
        at_rewind["state"] = {k: v.clone() for k, v in self.model.state_dict().items()}

    monkeypatch.setattr(Trainer, "_snapshot_if_wanted", remember)
    monkeypatch.setattr(Trainer, "_rewind", look)
    result = prune(kind)
    structure = STRUCTURES[kind].seeing(lambda m: m(task().test.images[:2]))
    twin, _ = structure.apply_(early["model"], sc.core.Choice(result.keep))
    assert twin.state_dict().keys() == at_rewind["state"].keys()
    assert all(torch.equal(v, at_rewind["state"][k]) for k, v in twin.state_dict().items())
    assert any(bool((v != result.subject.state_dict()[k]).any()) for k, v in at_rewind["state"].items())


@pytest.mark.parametrize("kind", STRUCTURES)
def test_a_run_that_is_killed_at_every_other_step_ends_in_the_same_weights(kind, tmp_path):
    unbroken = prune(kind)

    def once(title, *_):
        once.left -= title == "recipe"  # a step of training
        if once.left == 0:
            raise Killed

    result = None
    for _ in range(20):
        once.left = 2
        try:
            with showing(once):
                result = prune(kind, run=tmp_path / "run", save_every_s=0.0)
            break
        except Killed:
            continue
    assert result is not None and result.keep == unbroken.keep
    state = result.subject.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in unbroken.subject.state_dict().items())


def test_a_ticket_may_keep_its_trained_weights():
    recipe = sc.Recipe(
        structure=STRUCTURES["layers"],
        score=sc.scores.Taylor(),
        budget=sc.budgets.Exactly(2),
        schedule=Rewinding(None, to="end"),
        recovery=(sc.recovery.FineTune(),),
    )
    result = sc.prune(net(), recipe, task=task(), device="cpu")
    assert result.provenance["train_steps"] == 8 and sum(result.keep.counts.values()) == 2


@pytest.mark.parametrize("settings", [{"share": 0.2}, {"share": None, "control": "reinit"}])
def test_second_cuts_and_fresh_weights_are_still_refused(settings):
    recipe = sc.Recipe(
        structure=STRUCTURES["layers"],
        score=sc.scores.Magnitude(),
        schedule=Rewinding(**settings),
        recovery=(sc.recovery.FineTune(),),
    )
    with pytest.raises(sc.RecipeError, match=r"(?s)what is cut out is gone.*share=None"):
        sc.prune(net(), recipe, sparsity=0.5, task=task(), device="cpu")
