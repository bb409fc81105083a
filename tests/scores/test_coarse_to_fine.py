"""CFSP's fine score: the formula as loops, the released form in which weights cancel, MLPs without a gate."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.calibration import collect
from secateur.core import Stats
from secateur.scores import CoarseToFine
from secateur.scores.coarse_to_fine import relative_mean
from secateur.structures import Channels

seeds = st.integers(0, 2**16)
X = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Gated(nn.Module):
    def __init__(self, fused=False):
        super().__init__()
        self.gate, self.up = nn.Linear(3, 5, bias=False), nn.Linear(3, 5, bias=False)
        self.both = nn.Linear(3, 10, bias=False) if fused else None
        self.down = nn.Linear(5, 4, bias=False)

    def inner(self, x):
        gate, up = (self.gate(x), self.up(x)) if self.both is None else self.both(x).chunk(2, -1)
        return torch.nn.functional.silu(gate) * up

    def forward(self, x):
        return self.down(self.inner(x))


def gated(seed=0, fused=False):
    torch.manual_seed(seed)
    return Gated(fused).double().eval()


def units(model):
    return Channels(kinds=("hidden",), streams=False).find(model, X)


def scored(model, score, space=None):
    space = units(model) if space is None else space
    (group,) = space
    goal = sc.Task(train=X, test=X, call=lambda m, b: m(b))
    return score(group, Stats(collect(model, space.leaves(), score.needs, goal, X.split(2))))


MODEL = gated()
SPACE = units(MODEL)


def redrawn(seed):
    """The one model, whose units are found once, with other weights."""
    MODEL.load_state_dict(gated(seed).state_dict())
    return MODEL


@given(seeds, st.sampled_from([0.0, 1.0, 0.5]), st.sampled_from([0.0, 1.0, 2.0]))
def test_the_score_is_the_formula_written_as_loops(seed, b, c):
    model = redrawn(seed)
    n = model.inner(X).detach().square().mean(0).sqrt()  # every sample is a sequence of one
    down, up, gate = (w.detach().abs() for w in (model.down.weight, model.up.weight, model.gate.weight))
    slow = torch.zeros(5, dtype=torch.float64)
    for j in range(5):
        read = [down[i, j] * n[j] ** b / sum(down[i, k] * n[k] ** b for k in range(5)) for i in range(4)]
        made = [w[j, i] / sum(w[k, i] for k in range(5)) for w in (up, gate) for i in range(3)]
        slow[j] = (sum(read) / 4 + sum(made) / 3) * n[j] ** c
    torch.testing.assert_close(scored(model, CoarseToFine(b, c), SPACE), slow)


@given(seeds)
def test_in_the_released_form_weights_cancel(seed):
    model = redrawn(seed)
    n = model.inner(X).detach().square().mean(0).sqrt()
    torch.testing.assert_close(scored(model, CoarseToFine(compat="release"), SPACE), n * (1 / 4 + 2 / 3))


def test_gate_and_up_in_one_matrix_score_as_in_two():
    apart, fused = gated(), gated(fused=True)
    with torch.no_grad():
        fused.both.weight.copy_(torch.cat((apart.gate.weight, apart.up.weight)))
        fused.down.weight.copy_(apart.down.weight)
    torch.testing.assert_close(scored(fused, CoarseToFine()), scored(apart, CoarseToFine()))


def test_without_a_gate_there_are_two_matrices_and_the_log_says_so(caplog):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)).double().eval()
    with caplog.at_level(logging.INFO):
        found = scored(model, CoarseToFine(0.0, 0.0))
    expected = relative_mean(model[2].weight.detach().abs()) + relative_mean(model[0].weight.detach().abs().T)
    torch.testing.assert_close(found, expected)
    assert "two matrices" in caplog.text


def test_a_dead_neuron_scores_zero_and_lowest():
    model = gated()
    with torch.no_grad():
        model.up.weight[2] = 0
    found = scored(model, CoarseToFine())
    assert found[2] == 0 and found.argmin() == 2 and found.isfinite().all()


def test_what_nothing_reads_is_named():
    (group,) = Channels(kinds=("hidden",), streams=False).find(gated(), X)
    with pytest.raises(sc.RecipeError, match="was seen reads it"):
        CoarseToFine()(group, Stats())
