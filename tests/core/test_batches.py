"""The first samples of whatever a batch is."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import first_samples


@given(st.integers(2, 5), st.integers(1, 4))
def test_every_tensor_of_the_batch_size_is_cut(size, count):
    batch = {"x": torch.arange(size * 3).view(size, 3), "more": (torch.arange(size), None, "name")}
    few = first_samples(batch, count)
    kept = min(size, count)
    assert torch.equal(few["x"], batch["x"][:kept]) and torch.equal(few["more"][0], torch.arange(size)[:kept])
    assert few["more"][1:] == (None, "name")


def test_positions_that_all_samples_share_stay_whole():
    batch = {"states": torch.zeros(2, 16, 4), "time": torch.zeros(2), "positions": torch.zeros(16, 3)}
    assert {k: tuple(v.shape) for k, v in first_samples(batch).items()} == {
        "states": (1, 16, 4),
        "time": (1,),
        "positions": (16, 3),
    }


def test_a_list_within_a_batch_is_one_of_samples():
    pictures = [torch.zeros(3, 8, 9), torch.zeros(3, 7, 5)]
    (few,) = first_samples((pictures,))
    assert [p.shape for p in few] == [(3, 8, 9)]


def test_inputs_and_targets_side_by_side_are_each_cut():
    images, labels = first_samples([torch.zeros(4, 3, 8, 8), torch.zeros(4)], 2)
    assert len(images) == len(labels) == 2


def test_what_has_no_first_dimension_stays():
    assert first_samples(torch.tensor(3.0)) == 3 and first_samples({"a": 1}) == {"a": 1}
