"""What flows between blocks: the same from memory and from disk, and never the caller's own tensor."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.calibration.activations import Activations


@pytest.mark.parametrize("on_disk", [False, True])
@given(shapes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=6))
def test_the_last_value_of_a_batch_is_what_was_put_there(on_disk, shapes, tmp_path_factory):
    held = Activations(tmp_path_factory.mktemp("held") if on_disk else None)
    for number, shape in enumerate(shapes):
        held[0], held[1] = torch.full(shape, float(number)), torch.full(shape, -1.0)
    assert torch.equal(held[0], torch.full(shapes[-1], float(len(shapes) - 1)))
    assert torch.equal(held[1], torch.full(shapes[-1], -1.0))


def test_a_new_value_does_not_overwrite_the_tensor_that_was_given():
    held, mine = Activations(), torch.zeros(2, 3)
    held[0] = mine
    held[0] = torch.ones(2, 3)
    assert not mine.any() and held[0].all()
