"""Layer lottery on small residual networks: which blocks go, when, and what they return to."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import Balanced, Score, Stats
from secateur.scores import KL, Crop, Grasp, Random, Snip, Whole, of_units
from secateur.tasks.digits import Images
from secateur.tasks.models import CifarResNet

EVERY = ["grasp", "snip", "crop", "kl", "random"]


def task(epochs=0.0, n=40, **training):
    g = torch.Generator().manual_seed(0)
    data = Images(torch.randn(n, 3, 8, 8, generator=g), torch.arange(n) % 10)
    settings = {"epochs": epochs, "optimizer": "sgd", "lr": 0.05, "momentum": 0.9} | training
    return sc.Task(train=data, test=data, batch_size=20, training=sc.Training(**settings))


def resnet(depth=20, seed=0):
    torch.manual_seed(seed)
    return CifarResNet(depth, 4)


@dataclass(frozen=True)
class Told(Score):
    """A score that was decided elsewhere."""

    keep: Any
    knows_whole = True

    def __call__(self, group, stats):
        return self.keep[group.name].float()


def prune(model, goal=None, **settings):
    return sc.prune(model, "layer-lottery", task=task() if goal is None else goal, device="cpu", **settings)


@pytest.mark.parametrize(
    "criterion, score",
    [
        ("grasp", Whole(Grasp(Balanced(10, 200.0)))),
        ("snip", Whole(Snip(Balanced(10)))),
        ("crop", Whole(Crop(Balanced(10)))),
        ("kl", KL()),
        ("random", Random()),
    ],
)
def test_each_criterion_is_its_score(criterion, score):
    assert sc.core.registry.get("layer-lottery").recipe(criterion=criterion).score == score


def test_the_lowest_mean_over_the_weights_of_a_block_goes_whatever_its_stage():
    model, goal = resnet(), task()
    images, targets = goal.train.images, goal.train.targets
    twin = copy.deepcopy(model).train()
    nn.functional.cross_entropy(twin(images), targets).backward()  # 40 images are 4 of each class
    mean = {}
    for stage in ("layer1", "layer2", "layer3"):
        for i, block in enumerate(getattr(twin, stage)):
            parts = [(p * p.grad).abs() for p in block.parameters() if p.dim() > 1]
            mean[stage, i] = sum(p.sum() for p in parts) / sum(p.numel() for p in parts)
    for changing in (("layer2", 0), ("layer3", 0)):
        del mean[changing]
    keep = prune(model, remove=2, criterion="snip").keep
    whole = {"layer1": (0, 1, 2), "layer2": (1, 2), "layer3": (1, 2)}
    gone = {(s, whole[s][i]) for s, mask in keep.masks.items() for i, stays in enumerate(mask) if not stays}
    assert gone == set(sorted(mean, key=mean.get)[:2])


@pytest.mark.parametrize("criterion", EVERY)
def test_so_many_blocks_are_really_gone_and_the_rest_has_its_first_weights(criterion):
    model = resnet()
    before = copy.deepcopy(model.state_dict())
    result = prune(model, remove=3, criterion=criterion)
    assert sum(len(getattr(model, f"layer{i}")) for i in (1, 2, 3)) == 6
    assert sum(result.keep.counts.values()) == 7 - 3
    assert torch.equal(model.conv1.weight, before["conv1.weight"])
    old = {id(v): v for v in before.values()}
    for name, value in model.state_dict().items():
        assert any(v.shape == value.shape and torch.equal(v, value) for v in old.values()), name


def test_all_blocks_of_a_stage_may_go_but_not_where_a_floor_stands():
    free = prune(resnet(), remove=6)
    assert sum(free.keep.counts.values()) == 1
    held = prune(resnet(), remove=4, floor=1)
    assert min(held.keep.counts.values()) == 1


def test_before_training_it_prunes_at_step_zero_and_trains_once():
    result = prune(resnet(), task(epochs=1.0), remove=2)
    assert [h["step"] for h in result.history] == [0] and result.provenance["train_steps"] == 2


def test_a_share_of_blocks_or_of_costs_serves_as_well():
    assert sum(prune(resnet(), sparsity=0.4).keep.counts.values()) == 4
    cheap = prune(resnet(), macs=0.7)
    assert cheap.after["macs"] / cheap.before["macs"] == pytest.approx(0.7, abs=1 / 9)


def test_after_training_the_survivors_return_to_their_first_weights():
    model = resnet()
    first = copy.deepcopy(model.state_dict())
    result = prune(model, task(epochs=1.0, lr=0.0), remove=3, rewind_to=0)
    assert [h["step"] for h in result.history] == [2] and result.provenance["train_steps"] == 4
    stage = [i for i, stays in enumerate(result.keep["layer1"].tolist()) if stays]
    for new, old in enumerate(stage):
        kept = model.state_dict()[f"layer1.{new}.conv1.weight"]
        assert torch.equal(kept, first[f"layer1.{old}.conv1.weight"])


@pytest.mark.parametrize("to, steps", [(0, 8), (0.5, 6), ("end", 8)])
def test_rewinding_trains_what_is_left_of_the_run(to, steps):
    result = prune(resnet(), task(epochs=2.0), remove=2, rewind_to=to)
    assert result.provenance["train_steps"] == steps and [h["step"] for h in result.history] == [4]


def test_a_ticket_that_is_rewound_equals_one_trained_from_the_weights_of_then():
    """The whole of algorithm B against its parts done by hand: train, judge, cut a copy of the first network, train."""
    goal = task(epochs=1.0)
    found = prune(resnet(), goal, remove=2, rewind_to=0, criterion="snip")
    recipe = sc.Recipe(
        structure=sc.structures.Layers(floor=0),
        score=Told(found.keep),
        budget=sc.budgets.Exactly(2),
        recovery=(sc.recovery.FineTune(),),
    )
    again = sc.prune(resnet(), recipe, task=goal, device="cpu")
    assert again.keep == found.keep
    for name, value in again.subject.state_dict().items():
        torch.testing.assert_close(found.subject.state_dict()[name], value, rtol=0, atol=0)


def test_a_rewound_ticket_is_saved_and_loaded(tmp_path):
    result = prune(resnet(), task(epochs=1.0), remove=3, rewind_to=1)
    result.save(tmp_path / "ticket")
    loaded = sc.load(tmp_path / "ticket", factory=resnet)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded.eval()(x), result.subject.eval()(x))


def test_a_plain_network_is_told_what_is_missing():
    vgg = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    with pytest.raises(sc.SubjectError, match=r"no residual block, a module whose output is its input plus something"):
        prune(vgg, remove=1)


def test_more_blocks_than_there_are_are_refused_by_their_names():
    model = resnet()
    before = [id(p) for p in model.parameters()]
    with pytest.raises(sc.BudgetError, match=r"(?s)8 units are to go.*no more than 6.*layer1\.0, .*layer3\.2"):
        prune(model, remove=8)
    with pytest.raises(sc.BudgetError, match="no more than 4"):
        prune(model, remove=5, floor=1)
    assert [id(p) for p in model.parameters()] == before


def test_blocks_that_change_the_shape_are_never_offered():
    groups = {n: m.numel() for n, m in prune(resnet(32), remove=1, criterion="random").keep.masks.items()}
    assert groups == {"layer1": 5, "layer2": 4, "layer3": 4}


def test_a_sparsity_beside_a_count_must_agree():
    with pytest.raises(sc.RecipeError, match=r"removes 0\.2857"):
        prune(resnet(), remove=2, sparsity=0.5)


@pytest.mark.parametrize("wrong", [{"criterion": "l1"}, {"remove": -1}, {"per_class": 0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(sc.RecipeError):
        prune(resnet(), **wrong)


def test_scores_leave_batch_norms_as_they_were():
    model, goal = resnet(), task()
    before = copy.deepcopy(model.state_dict())
    structure = sc.structures.Layers().seeing(lambda m: m(goal.train.images[:2]))
    space, score = structure.find(model), Whole(Grasp())
    values = sc.calibration.collect(model, space.leaves(), score.needs, goal, goal.batches())
    for group in space:
        assert of_units(score, group)(group, Stats(values)).isfinite().all()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
