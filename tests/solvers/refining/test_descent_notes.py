"""What a descent notes is what it goes on from; what does not fit is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import CheckpointError, Notes
from secateur.solvers.refining.candidates import Candidates
from secateur.solvers.refining.descent_notes import Descent


class Page(Notes):
    """Notes in memory."""

    def __init__(self):
        self.state = None

    def read(self, what):
        return self.state

    def due(self):
        return True

    def write(self, what, state):
        self.state = state


def descent(gone, lane=None, seed=0):
    gone = torch.tensor(gone)
    mine = Candidates("w", gone, torch.ones_like(gone), lane or len(gone), most=1.0)
    return Descent({"w": mine}, torch.Generator().manual_seed(seed))


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_what_is_noted_is_taken_up_whole(gone, data):
    first, page = descent(gone), Page()
    first.layers["w"].remember(torch.tensor(data.draw(st.lists(st.integers(0, len(gone) - 1), max_size=9)), dtype=int))
    first.done, first.before, first.used = 3, 0.1 + 0.2, {"w": True}
    torch.rand(data.draw(st.integers(0, 9)), generator=first.rng)
    first.write(page)
    second = descent(data.draw(st.permutations(gone)), seed=1)
    second.take_up_(page)
    mine, his = first.layers["w"], second.layers["w"]
    assert torch.equal(mine.gone, his.gone) and mine.recent == his.recent
    assert (second.done, second.before, second.used) == (3, 0.1 + 0.2, {"w": True})
    assert torch.equal(torch.rand(4, generator=first.rng), torch.rand(4, generator=second.rng))


@pytest.mark.parametrize(
    ("gone", "lane"),
    [([True, False, False, False], 4), ([True, True], 2), ([True, True, False, False], 2)],
    ids=["another count", "another size", "another count of a lane"],
)
def test_notes_of_another_choice_are_refused_and_nothing_is_taken_from_them(gone, lane):
    page = Page()
    descent([True, False, True, False], lane=2).write(page)
    other = descent(gone, lane)
    with pytest.raises(CheckpointError, match=r"does not fit(?s:.*)delete the run folder"):
        other.take_up_(page)
    assert other.layers["w"].gone.tolist() == gone and other.done == 0


@pytest.mark.parametrize("part", ["gone", "recent", "rng", "done", "before", "used"])
def test_notes_that_lack_a_part_are_refused(part):
    page = Page()
    descent([True, False]).write(page)
    del page.state[part]
    with pytest.raises(CheckpointError, match=part):
        descent([True, False]).take_up_(page)
