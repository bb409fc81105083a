"""GCP-SAD: what it is put together of, and a detector that is really cut. The claims are in claims/gcp_sad.py."""

import logging
from dataclasses import replace

import pytest
import torch

import secateur as sc
from secateur.core import registry
from secateur.tasks.detector import BestBox, FastestDet, picture_loss
from secateur.tasks.digits import Images


def detector(seed=0):
    torch.manual_seed(seed)
    return FastestDet(3, (1, 1, 1)).eval()


def task(count=8, epochs=1.0):
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(count, 3, 64, 64, generator=g), torch.arange(count) % 3
    return sc.Task(
        train=Images(x, y),
        test=Images(x, y),
        loss=lambda outputs, batch: picture_loss(outputs, batch[1]),
        metrics={"class_accuracy": BestBox()},
        training=sc.Training(epochs=epochs, lr=1e-3),
        batch_size=4,
    )


def parts(**settings):
    return [type(r).__name__ for r in registry.get("gcp-sad").recipe(**settings).recovery]


def test_its_three_stages_can_be_left_out_one_by_one():
    assert parts() == ["FineTune", "ScaleSparsity", "SpatialAttention"]
    assert parts(sparse=0) == ["FineTune", "SpatialAttention"]
    assert parts(epochs=0) == ["FineTune", "ScaleSparsity"] and parts(share=0.0) == ["FineTune", "ScaleSparsity"]
    assert parts(sparse=0, epochs=0) == []


def pruned(model=None, **options):
    """With a scan of two shares, which is enough for a test."""
    settings = {k: options.pop(k) for k in ("sparse", "epochs") if k in options}
    recipe = registry.get("gcp-sad").recipe(**settings)
    recipe = replace(recipe, budget=replace(recipe.budget, ratios=(0.3, 0.9)))
    return sc.prune(detector() if model is None else model, recipe, task=task(), device="cpu", **options)


def test_a_detector_is_cut_between_two_trainings_proven_saved_and_loaded(tmp_path):
    result = pruned(sparse=1, epochs=1, macs=0.7)
    model, x = result.subject, torch.rand(2, 3, 64, 64)
    assert [h["step"] for h in result.history] == [2] and result.provenance["train_steps"] == 4
    assert registry.get("gcp-sad").recipe().structure.verify and model(x).shape == (2, 8, 4, 4)
    assert 0 <= result.metrics["class_accuracy"] <= 1
    assert result.after["macs"] == pytest.approx(0.7 * result.before["macs"], rel=0.03)
    picture_loss(model.train()(x), torch.tensor([0, 1])).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert sum(p.grad is not None for p in model.parameters()) > 50
    result.save(tmp_path / "saved")
    loaded = sc.load(tmp_path / "saved", factory=detector).eval()
    torch.testing.assert_close(loaded(x), model.eval()(x))


def test_what_the_detector_gives_back_keeps_its_channels_and_the_rest_a_tenth():
    result = pruned(sparse=0, epochs=0, sparsity=0.75)
    assert all(count >= 0.1 * result.keep[name].numel() for name, count in result.keep.counts.items())
    assert result.sparsity["kept"] == sc.core.kept_count(0.75, result.sparsity["units"])
    for head in ("box.3", "cls.3"):
        assert f"{head}.weight, dimension 0" in result.sparsity["skipped"] and head not in result.keep


def test_a_group_without_batch_norm_is_judged_by_its_filters_and_named(caplog):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 3),
    )
    with torch.no_grad():
        model[0].weight[2:5] *= 1e-3
    data = sc.Task(train=task().train, test=task().test, batch_size=4)
    with caplog.at_level(logging.WARNING):
        result = sc.prune(model, "gcp-sad", sparsity=0.375, sparse=0, epochs=0, task=data, device="cpu")
    assert "'0' has no batch norm" in caplog.text
    assert result.keep["0"].tolist() == [True, True, False, False, False, True, True, True]
