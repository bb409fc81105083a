"""Models that decide: a tie that round-off turns is no difference, and what is decided by is compared."""

import copy

import pytest
import torch
from torch import nn

from secateur.core import NumericsError
from secateur.graph import couple, otherwise, proven_cut_
from secateur.graph import surgery as surgery_room

X = torch.randn(6, 8, generator=torch.Generator().manual_seed(3))


class Deciding(nn.Module):
    """Scores rows, keeps those above the median score of an equal twin, best first, and reads them."""

    def __init__(self):
        super().__init__()
        self.stem, self.score, self.head = nn.Linear(8, 32), nn.Linear(32, 1), nn.Linear(32, 3)

    def forward(self, x):
        hidden = self.stem(x).relu()
        score = self.score(hidden).squeeze(-1)
        best = (score * 0 + hidden.sum(-1) * 1e-9).round(decimals=6)  # ties for all, but for round-off
        kept = hidden[best + score.sum() * 1e-8 >= best.mean() + score.flip(0).sum() * 1e-8]
        return self.head(torch.cat([kept, hidden[:1]])).sum(0), score.topk(2)[0]


def drawn(model):
    coupling = couple(model, lambda m: m(X))
    (family,) = coupling.families
    return coupling, coupling.gone({family.name: torch.arange(32) % 2 == 0})


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Deciding().eval()


def test_a_tie_that_round_off_turns_is_no_difference(model):
    for seed in range(6):
        torch.manual_seed(seed)
        twin = Deciding().eval()
        coupling, gone = drawn(twin)
        call = lambda m: m(X)  # noqa: E731
        proven_cut_(twin, (call, otherwise(call)), coupling, gone)
        assert twin.stem.weight.shape == (16, 8)


def test_a_wrong_cut_is_found_although_the_decisions_are_told(model, monkeypatch):
    right = surgery_room.sliced
    monkeypatch.setattr(
        surgery_room,
        "sliced",
        lambda tensor, kept: right(tensor, {d: w.flip(0) if d == 1 else w for d, w in kept.items()}),
    )
    coupling, gone = drawn(model)
    before = copy.deepcopy(model.state_dict())
    call = lambda m: m(X)  # noqa: E731
    with pytest.raises(NumericsError, match="differs from the dense one"):
        proven_cut_(model, (call, otherwise(call)), coupling, gone)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class Ranked(nn.Module):
    """Which of two equal sums is the larger is nobody's to say."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(8, 32), nn.Linear(32, 3)

    def forward(self, x):
        hidden = self.stem(x).relu()
        there, back = hidden.sum(-1), hidden.flip(0).sum(-1).flip(0) * (1 + 1e-8)
        first = torch.stack([there / there, back / there], -1).argmax(-1)
        return self.head(hidden) * (1 + first[:, None])


def test_an_argmax_of_equal_numbers_is_told():
    told = 0
    for seed in range(8):
        torch.manual_seed(seed)
        model = Ranked().eval()
        coupling, gone = drawn(model)
        call = lambda m: m(X)  # noqa: E731
        proven_cut_(model, (call, otherwise(call)), coupling, gone)
        told += 1
    assert told == 8


class Pasting(nn.Module):
    """Reads each row that passes a threshold by itself, as often as its score says, as masks are pasted."""

    def __init__(self):
        super().__init__()
        self.stem, self.score, self.read, self.head = (nn.Linear(*n) for n in ((8, 32), (32, 1), (32, 24), (24, 3)))

    def forward(self, x):
        hidden = self.stem(x).relu()
        score = self.score(hidden).squeeze(-1)
        out = x.new_zeros(3)
        for row in torch.nonzero(score >= score.mean()).flatten():
            span = int((score[row].abs() * 8).long()) + 1
            pasted = self.head(self.read(hidden[row]).relu())[None].expand(span, 3)
            out = out + pasted.sum(0) - pasted.mean(0)
        return out


@pytest.mark.parametrize("seed", range(6))
def test_a_loop_as_long_as_what_passes_a_threshold_is_tried_as_it_was_recorded(seed):
    torch.manual_seed(seed)
    model = Pasting().eval()
    call = lambda m: m(X)  # noqa: E731
    coupling = couple(model, call)
    assert coupling.graph.rung == "real tensors"
    assert sorted(f.size for f in coupling.families) == [24, 32]
    gone = coupling.gone({f.name: torch.arange(f.size) % 2 == 0 for f in coupling.families})
    proven_cut_(model, (call, call), coupling, gone)
    assert model.stem.weight.shape == (16, 8) and model.head.weight.shape == (3, 12)
