"""Wanda's score, the share variant, and OWL's densities, against their formulas."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.budgets import OWL
from secateur.budgets.owl import densities
from secateur.core import RecipeError, Task
from secateur.scores.wanda import cumulative, wanda

matrices = st.tuples(st.integers(1, 5), st.integers(2, 7), st.integers(0, 999))


def drawn(rows, columns, seed):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@given(matrices)
def test_the_score_is_size_times_norm(size):
    W, n = drawn(*size), drawn(*size)[0].abs()
    assert torch.equal(wanda(W, n.expand_as(W)), W.abs() * n[None])


@given(matrices)
def test_shares_rise_with_scores_and_end_at_one_in_every_row(size):
    scores = drawn(*size).abs() + 0.1
    shares = cumulative(scores)
    assert torch.equal(shares.argsort(1), scores.double().argsort(stable=True, dim=1))
    torch.testing.assert_close(shares.amax(1), torch.ones(len(scores), dtype=torch.float64))


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=8),
    st.floats(0.05, 0.95),
    st.floats(0, 0.5),
    st.integers(0, 99),
)
def test_densities_have_the_right_mean_and_order(outliers, sparsity, width, seed):
    o = torch.tensor(outliers, dtype=torch.float64)
    sizes = torch.randint(1, 100, (len(o),), generator=torch.Generator().manual_seed(seed)).double()
    d = densities(o, sizes, sparsity, width)
    assert float((d * sizes).sum() / sizes.sum()) == pytest.approx(1 - sparsity, abs=1e-6)
    assert ((d >= 0.01 - 1e-9) & (d <= 1 + 1e-9)).all()
    assert float(d.max() - d.min()) <= 2 * width + 1e-6
    order = o.argsort()
    assert (d[order].diff() >= -1e-9).all()


def test_equal_blocks_get_equal_shares():
    d = densities(torch.full((3,), 0.2).double(), torch.tensor([1.0, 2, 3]).double(), 0.7, 0.08)
    assert d.tolist() == pytest.approx([0.3] * 3)


def test_conv1d_of_gpt2_is_scored_along_its_inputs():
    import transformers as tf

    torch.manual_seed(0)
    layer = tf.pytorch_utils.Conv1D(6, 4)
    plain = nn.Linear(4, 6)
    plain.weight.data = layer.weight.data.T.clone()
    x = torch.randn(16, 4)
    goal = Task(train=[(x, x)], test=[(x, x)], metrics={}, loss=lambda o, b: o.sum())
    masks = [sc.prune(nn.Sequential(m), "wanda", sparsity=0.5, task=goal).masks["0.weight"] for m in (layer, plain)]
    assert torch.equal(masks[0].T, masks[1])


def test_the_variant_is_exact_in_the_whole_matrix_and_refused_for_patterns():
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    goal = Task(train=[(x, x)], test=[(x, x)], metrics={}, loss=lambda o, b: o.sum())
    torch.manual_seed(0)
    result = sc.prune(nn.Sequential(nn.Linear(8, 6)), "wanda", adaptive=True, sparsity=0.5, task=goal)
    mask = result.masks["0.weight"]
    assert int(mask.sum()) == 24 and len({int(r) for r in mask.sum(1)}) > 1
    with pytest.raises(RecipeError, match="different shares"):
        sc.prune(nn.Sequential(nn.Linear(8, 6)), "wanda", adaptive=True, structure="2:4", task=goal)


def test_owl_refuses_what_is_no_setting():
    with pytest.raises(RecipeError, match="width"):
        OWL(width=-1)
