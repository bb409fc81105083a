"""Parts that single claims are built from: what they compare must be what they say."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.claims.gmp import _HIDDEN, _SPARSITY, _VOCABULARY, _parameters, _small_hidden
from secateur.claims.imp import _SPARSITY as TICKET
from secateur.claims.magnitude import _Wanda, wanda
from secateur.schedules.rewinding import levels
from secateur.tasks.digits import Images
from secateur.tasks.models import WordLSTM

sizes, seeds = st.integers(1, 6), st.integers(0, 2**16)


@given(sizes, sizes, seeds)
def test_wanda_equals_its_formula_written_as_loops_but_for_the_number_of_tokens(rows, cols, seed):
    g = torch.Generator().manual_seed(seed)
    w, x = torch.randn(rows, cols, generator=g), torch.randn(9, cols, generator=g)
    slow = torch.tensor([[abs(w[i, j]) * x[:, j].norm() for j in range(cols)] for i in range(rows)])
    torch.testing.assert_close(wanda(w, (x.T @ x).double() / 9) * 3, slow)


def test_wanda_keeps_the_best_inputs_of_every_row():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 6, generator=g) * torch.arange(1.0, 7.0), torch.zeros(40, dtype=torch.long)
    model = nn.Sequential(nn.Linear(6, 8))
    best = (model[0].weight.detach().abs() * x.norm(dim=0)).topk(3, dim=1).indices
    expected = torch.zeros(8, 6, dtype=torch.bool).scatter_(1, best, True)
    recipe = sc.Recipe(structure=sc.structures.Weights(), score=_Wanda(), budget=sc.budgets.Uniform(per="row"))
    result = sc.prune(model, recipe, sparsity=0.5, task=sc.Task(train=Images(x, y), test=Images(x, y)))
    assert torch.equal(result.masks["0.weight"], expected)


def test_the_small_lstm_has_as_many_parameters_as_the_sparse_one_has_left():
    matrices, biases = _parameters(_HIDDEN)
    left = round((1 - _SPARSITY) * matrices) + biases
    small = sum(p.numel() for p in WordLSTM(_VOCABULARY, _small_hidden()).parameters())
    smaller = sum(p.numel() for p in WordLSTM(_VOCABULARY, _small_hidden() - 1).parameters())
    assert smaller < left <= small
    assert sum(p.numel() for p in WordLSTM(_VOCABULARY, _HIDDEN).parameters()) == matrices + biases


def test_a_ticket_takes_ten_rounds():
    assert levels(TICKET, 0.2) == 10
