"""A pruning space under study: its band, its protocol, and that it goes on where it stopped."""

import copy
import json

import pytest
import torch

import secateur as sc
from secateur.core import BudgetError, CheckpointError, RecipeError
from secateur.engine import spaces
from secateur.tasks.models import DigitsCNN

TASK = sc.tasks.builtin_task("digits")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return DigitsCNN(8).eval()


def study(model, folder=None, **options):
    settings = {"samples": 4, "steps": 0, "recalibrate": 1, "folder": folder, "device": "cpu"} | options
    return sc.pruning_space(model, TASK, **settings)


def test_every_sample_costs_the_share_and_the_model_stays_whole(model):
    before = copy.deepcopy(model.state_dict())
    found = study(model)
    macs = spaces._Study(model, TASK, sc.structures.Channels(), spaces._l1(), 0, "cpu").space.totals["macs"]({})
    unit = 1 / 16  # half of the largest share that one of eight channels can have
    assert all(abs(s.macs / macs - 0.5) <= unit for s in found.samples)
    assert len({tuple(s.counts.values()) for s in found.samples}) > 1
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_an_error_is_that_of_the_cut_and_recalibrated_model(model):
    sample = study(model, samples=3).samples[0]
    recipe = sc.Recipe(
        structure=sc.structures.Channels(),
        score=spaces._l1(),
        budget=sc.budgets.Fixed(
            {n: 1 - c / {"conv1": 8, "conv2": 16, "conv3": 32}[n] for n, c in sample.counts.items()}
        ),
    )
    cut = sc.prune(copy.deepcopy(model), recipe, task=TASK.fork(0)).subject
    sc.recalibrate_bn_(cut, [next(iter(TASK.fork(0).batches("train", epoch=0)))], TASK)
    assert sample.error == pytest.approx(1 - TASK.evaluate(cut)["accuracy"])


def test_it_goes_on_with_what_is_missing_and_ends_as_if_it_had_never_stopped(model, tmp_path, monkeypatch):
    whole = study(model)
    real, seen = spaces._Study.measured, []

    def killed(self, index, *rest):
        if index == 2 and not seen:
            seen.append(index)
            raise KeyboardInterrupt
        return real(self, index, *rest)

    monkeypatch.setattr(spaces._Study, "measured", killed)
    with pytest.raises(KeyboardInterrupt):
        study(model, tmp_path)
    assert len(json.loads((tmp_path / spaces.FILE).read_text())["samples"]) == 2
    assert study(model, tmp_path) == whole


def test_more_samples_begin_with_those_that_are_there(model, tmp_path, monkeypatch):
    first = study(model, tmp_path)
    monkeypatch.setattr(spaces._Study, "whole", None)  # the dense model is not measured again
    more = study(model, tmp_path, samples=5)
    assert more.samples[:4] == first.samples and len(more.samples) == 5


def test_a_folder_of_another_study_is_refused_and_a_damaged_one_begun_anew(model, tmp_path):
    study(model, tmp_path, samples=3)
    with pytest.raises(CheckpointError, match="another study"):
        study(model, tmp_path, share=0.6)
    (tmp_path / spaces.FILE).write_text("{")
    assert len(study(model, tmp_path, samples=3).samples) == 3


def test_training_steps_lower_the_error(model):
    assert (
        study(model, samples=3, steps=20).summary()["median_error"] < study(model, samples=3).summary()["median_error"]
    )


def test_its_summary_speaks_of_the_ratio(model):
    found = study(model)
    summary = found.summary()
    ratios = [s.ratio for s in found.samples]
    assert min(ratios) * 0.999 <= summary["best_ratio"] <= max(ratios) * 1.001
    assert summary["refined"] == sum(abs(r / found.best_ratio - 1) <= 0.1 for r in ratios)
    assert json.loads(json.dumps(found.to_json()))["samples"][0]["index"] == 0


def test_a_share_that_no_width_reaches_gives_the_interval(model):
    with pytest.raises(BudgetError, match="can be reached"):
        study(model, share=0.01, least=0.5)


@pytest.mark.parametrize("wrong", [{"samples": 2}, {"steps": -1}, {"recalibrate": -1}])
def test_a_setting_outside_its_range_is_refused(model, wrong):
    with pytest.raises(RecipeError, match="3 samples or more"):
        study(model, **wrong)
