"""Blocks at the ends of their run stay whole: which they are, what counts as a run, what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.core import RecipeError, SubjectError, count
from secateur.core.blocks import Place, place_of
from secateur.structures import Channels
from secateur.structures.ends import whole_blocks


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.out(torch.relu(self.into(x)))


class Block(nn.Module):
    """A block whose experts repeat as well."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(Expert() for _ in range(2))

    def forward(self, x):
        return x + sum(expert(x) for expert in self.experts)


class Net(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.first, self.blocks = nn.Linear(4, 4), nn.ModuleList(Block() for _ in range(blocks))

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


def numbers(blocks, ends):
    return sorted(int(path.rpartition(".")[2]) for path in whole_blocks(Net(blocks), ends))


@given(st.integers(2, 12), st.integers(0, 4), st.integers(0, 4))
def test_so_many_of_the_first_and_the_last_are_whole(blocks, first, last):
    if first + last >= blocks:
        with pytest.raises(SubjectError, match=f"ends that add up to {blocks - 1} at most"):
            whole_blocks(Net(blocks), (first, last))
    else:
        assert numbers(blocks, (first, last)) == [*range(first), *range(blocks - last, blocks)]


@pytest.mark.parametrize(("blocks", "first", "last"), [(32, 4, 2), (16, 2, 1), (8, 1, 1), (4, 1, 0), (2, 0, 0)])
def test_shares_scale_with_the_depth(blocks, first, last):
    assert numbers(blocks, (0.125, 0.0625)) == [*range(first), *range(blocks - last, blocks)]
    assert (count(0.125, blocks), count(0.0625, blocks)) == (first, last)


def test_experts_of_a_block_are_no_run_of_their_own():
    modules = dict(Net(3).named_modules())
    assert place_of(modules, "blocks.1.experts.0.into") == Place("blocks", 1, 3)
    assert place_of(modules, "blocks.1") == Place("blocks", 1, 3)
    assert place_of(modules, "first") is None


def test_two_runs_have_ends_each():
    both = nn.ModuleDict({"encoder": Net(4), "decoder": Net(8)})
    found = whole_blocks(both, (1, 0.125))
    assert sorted(found) == ["decoder.blocks.0", "decoder.blocks.7", "encoder.blocks.0", "encoder.blocks.3"]
    assert found["encoder.blocks.3"] == "one of the last 1 of 4 blocks, which stay whole"


def test_units_of_whole_blocks_are_not_offered_and_the_reason_is_told():
    space = Channels(streams=False, ends=(1, 1)).find(Net(3), torch.randn(2, 4))
    assert {g.name.split(".")[1] for g in space} == {"1"}
    assert "first 1 of 3 blocks" in space.skipped["blocks.0.experts.0.into"]
    assert len(Channels(streams=False).find(Net(3), torch.randn(2, 4))) == 6


@pytest.mark.parametrize("ends", [(-1, 0), (0, 1.0), (0.5, float("nan"))])
def test_ends_are_counts_or_shares(ends):
    with pytest.raises(RecipeError, match="shares in"):
        Channels(ends=ends)
