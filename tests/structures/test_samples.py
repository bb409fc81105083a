"""Samples: a unit is one sample of a data set."""

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from secateur.core import Choice, Keep, SubjectError
from secateur.structures import Samples


class Labelled(TensorDataset):
    targets = (3, 1, 2)


def test_all_samples_compete_and_cost_one_each():
    (group,) = Samples().find(TensorDataset(torch.zeros(5)))
    assert (group.shape, dict(group.costs), group.labels) == ((5,), {"samples": 1.0}, None)


def test_labels_come_with_the_group():
    (group,) = Samples().find(Labelled(torch.zeros(3)))
    assert group.labels.tolist() == [3, 1, 2]


def test_the_samples_that_stay_keep_their_order():
    data = TensorDataset(torch.arange(4))
    subset, _ = Samples().apply_(data, Choice(Keep({"samples": torch.tensor([True, False, True, True])})))
    assert [int(x) for (x,) in subset] == [0, 2, 3] and len(data) == 4


@pytest.mark.parametrize("subject", [nn.Sequential(), iter([1]), 3], ids=["module", "iterator", "number"])
def test_what_is_no_data_set_is_refused(subject):
    with pytest.raises(SubjectError, match="no map-style data set"):
        Samples().find(subject)


def test_an_empty_data_set_is_refused():
    with pytest.raises(SubjectError, match="empty"):
        Samples().find([])
