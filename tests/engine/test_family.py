"""A larger member of a family, pruned to the cost of a smaller one, beside that one."""

import copy

import pytest
import torch

import secateur as sc
from secateur.core.costs import layers
from secateur.engine.family import ABSENT
from secateur.tasks.digits import Images
from secateur.tasks.mobilenet import SmallMobileNet


def member(width):
    torch.manual_seed(0)
    return SmallMobileNet(width)


def task():
    g = torch.Generator().manual_seed(0)
    images = Images(torch.randn(24, 3, 8, 8, generator=g), torch.randint(10, (24,), generator=g))
    training = sc.Training(epochs=4, optimizer="adamw", lr=1e-3)
    return sc.Task(train=images, test=images, batch_size=8, training=training)


FAMILY = {str(width): member(width) for width in (0.5, 0.75, 1.0)}
MACS = {n: sum(r.macs for r in layers(m, torch.randn(1, 3, 8, 8))) for n, m in FAMILY.items()}


@pytest.fixture(scope="module")
def found():
    before = {n: copy.deepcopy(m.state_dict()) for n, m in FAMILY.items()}
    result = sc.compact_family(FAMILY, "0.5", task(), train=True, device="cpu")
    kept = all(torch.equal(t, m.state_dict()[k]) for n, m in FAMILY.items() for k, t in before[n].items())
    return result, kept


def test_the_next_larger_member_is_pruned_to_the_siblings_cost(found):
    result, _ = found
    assert (result.parent.name, result.sibling.name) == ("0.75", "0.5")
    assert result.macs == result.sibling.macs == MACS["0.5"] and result.counted == "macs"
    assert abs(result.pruned.after["macs"] / MACS["0.5"] - 1) < 0.03


def test_the_members_are_left_as_they_were(found):
    assert found[1]


def test_the_comparison_is_with_the_smaller_member_and_not_with_the_parent(found):
    result, _ = found
    for name, value in result.pruned.metrics.items():
        assert result.comparison[name] == value - result.sibling.metrics[name]


def test_what_everything_cost_is_told(found):
    result, _ = found
    assert set(result.cpu_hours) == {"prune and fine-tune", "train the sibling", "train the parent", "scratch-b"}
    assert all(hours > 0 for hours in result.cpu_hours.values())
    assert result.sibling.train_steps == 4 * 3 and result.pruned.provenance["train_steps"] == 3


def test_the_same_architecture_is_trained_from_scratch_for_as_many_multiplications(found):
    result, _ = found
    shapes = [[p.shape for p in r.subject.parameters()] for r in (result.pruned, result.scratch)]
    assert shapes[0] == shapes[1]
    epochs = int(4 * result.pruned.before["macs"] / result.pruned.after["macs"])
    assert result.scratch.provenance["train_steps"] == 3 + 3 * epochs


def test_a_number_is_a_target_too_and_the_nearest_member_the_sibling():
    most = round(0.9 * MACS["0.75"])
    result = sc.compact_family(FAMILY, most, task(), scratch=False, device="cpu")
    assert (result.parent.name, result.sibling.name, result.macs) == ("0.75", "0.5", most)
    assert result.scratch is None and result.cpu_hours["train the parent"] is None


def test_without_a_sibling_it_runs_and_the_comparison_is_absent():
    result = sc.compact_family({"1.0": FAMILY["1.0"]}, MACS["0.75"], task(), scratch=False, device="cpu")
    assert result.sibling is None and result.comparison == ABSENT
    assert abs(result.pruned.after["macs"] / MACS["0.75"] - 1) < 0.03


def test_single_weights_meet_ideal_sparse_macs_and_depthwise_convolutions_stay():
    result = sc.compact_family(FAMILY, "0.75", task(), granularity="weights", scratch=False, device="cpu")
    assert result.counted == "macs_nonzero" and result.parent.name == "1.0"
    assert abs(result.pruned.after["macs_nonzero"] / MACS["0.75"] - 1) < 0.01
    assert result.pruned.after["macs"] == MACS["1.0"]
    assert not any("depthwise" in name for name in result.pruned.masks)


@pytest.mark.parametrize("target", ["1.0", MACS["1.0"], 10 * MACS["1.0"], 0, float("nan")])
def test_a_cost_above_every_parents_is_refused(target):
    with pytest.raises(sc.RecipeError, match="no member costs more") as error:
        sc.compact_family(FAMILY, target, task())
    assert isinstance(error.value, ValueError)


def test_a_member_that_is_not_there_is_named():
    with pytest.raises(sc.RecipeError, match=r"no member '0\.7'"):
        sc.compact_family(FAMILY, "0.7", task())
