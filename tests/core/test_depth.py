"""Skipped modules and deleted entries, as plain actions."""

import pytest
import torch
from torch import nn

from secateur.core import CheckpointError, Drop, Mend, Plan, Resize, Skip, Skipped


def net():
    return nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.ReLU())


def test_a_skipped_module_gives_the_arguments_that_it_is_told():
    a, b = torch.ones(2), torch.zeros(3)
    assert Skipped(nn.ReLU(), (0,), True, False)(a) is a
    given = Skipped(nn.ReLU(), ("b", None, 0), False, False)(a, b=b)
    assert given[0] is b and given[1] is None and given[2] is a


def test_a_skipped_branch_gives_zeros_like_an_argument():
    given = Skipped(nn.ReLU(), (0, None), False, True)(torch.ones(2, dtype=torch.float64))
    assert given[0].tolist() == [0, 0] and given[0].dtype == torch.float64 and given[1] is None


def test_settings_that_others_read_stay_and_tensors_are_none():
    skipped = Skipped(nn.Linear(3, 4), (0,), True, False)
    assert skipped.in_features == 3 and skipped.weight is None and not list(skipped.parameters())


def test_entries_are_deleted_and_numbered_ones_move_up():
    model = net()
    last = model[2]
    Drop("", ("0",)).replay_(model)
    assert list(model._modules) == ["0", "1"] and model[1] is last


def test_entries_with_names_keep_them():
    model = nn.Sequential()
    for name in "abc":
        model.add_module(name, nn.Linear(3, 3))
    Drop("", ("b",)).replay_(model)
    assert list(model._modules) == ["a", "c"]


def test_actions_come_back_from_json():
    plan = Plan((Skip("a.b", ("x", None, 2), False, True), Drop("a", ("0", "3")), Mend("a.0", "layer_idx", 1)))
    assert Plan.from_json(plan.to_json()) == plan


def test_joining_plans_never_merges_across_deleted_entries():
    before = Plan((Resize("0.weight", (2, 3)), Drop("", ("0",))))
    after = Plan((Resize("0.weight", (1, 3)), Drop("", ("1",)), Resize("0.weight", (1, 1))))
    assert (before + after).actions == (*before.actions, *after.actions)


def test_joining_plans_keeps_the_last_size_between_them():
    first, second = Plan((Drop("", ("0",)), Resize("0.weight", (2, 3)))), Plan((Resize("0.weight", (1, 3)),))
    assert (first + second).actions == (Drop("", ("0",)), Resize("0.weight", (1, 3)))


@pytest.mark.parametrize(
    "entry",
    [
        {"do": "skip", "module": "0", "gives": [-1], "alone": True, "zeros": False},
        {"do": "skip", "module": "0", "gives": [0, 1], "alone": True, "zeros": False},
        {"do": "skip", "module": "0", "gives": [[0]], "alone": True, "zeros": False},
        {"do": "skip", "module": "0", "gives": [0], "alone": 1, "zeros": False},
        {"do": "skip", "module": "0", "gives": [True], "alone": True, "zeros": False},
        {"do": "skip", "module": "0", "gives": [0], "alone": True, "zeros": False, "more": 1},
        {"do": "drop", "container": "", "entries": [0]},
        {"do": "drop", "container": "", "entries": "01"},
        {"do": "drop", "container": ""},
    ],
)
def test_an_action_that_is_not_plain_is_refused(entry):
    with pytest.raises(CheckpointError, match="no action of a plan"):
        Plan.from_json([entry])


@pytest.mark.parametrize(
    "action", [Skip("", (0,)), Skip("7", (0,)), Drop("0", ("0",)), Drop("", ("7",)), Drop("nothing", ())]
)
def test_an_action_that_does_not_fit_the_model_is_refused(action):
    with pytest.raises(CheckpointError, match="no such tensor"):
        Plan((action,)).replay_(net())
