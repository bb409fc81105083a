"""Probe: SparseGPT on one Linear. Choosing and repairing interleave, so it is a `Solve`."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import Choice, InputGram, Keep, NumericsError, Solve, count


def sparsegpt(W, H, stays, block=128, damp=0.01):
    """Frantar & Alistarh 2023: columns left to right, the error of each spread over the columns still to come.

    Args:
        W: [out, in]; H: [in, in], mean of x x^T; stays: weights that stay in the whole matrix.
    """
    W, H = W.double().clone(), 2 * H.double()
    dead = H.diagonal() == 0
    H[dead, dead] = 1
    W[:, dead] = 0
    H += damp * H.diagonal().mean() * torch.eye(len(H), dtype=H.dtype)
    try:
        U = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(H)), upper=True)
    except torch.linalg.LinAlgError as error:
        raise NumericsError("the Hessian is singular", where="sparsegpt", mend="more damping") from error
    keep = torch.ones_like(W, dtype=torch.bool)
    gone = 0
    for start in range(0, W.shape[1], block):
        cols = slice(start, min(start + block, W.shape[1]))
        part, root = W[:, cols].clone(), U[cols, cols]
        upto = count((W.numel() - stays) / W.numel(), W.shape[0] * cols.stop)
        score = part**2 / root.diagonal() ** 2
        order = score.flatten().argsort(stable=True)[: upto - gone]
        mask = torch.ones(score.numel(), dtype=torch.bool)
        mask[order] = False
        keep[:, cols] = mask.view_as(score)
        gone = upto
        errors = torch.zeros_like(part)
        for i in range(part.shape[1]):
            q = part[:, i] * keep[:, start + i]
            errors[:, i] = (part[:, i] - q) / root[i, i]
            part[:, i:] -= errors[:, i, None] * root[i, None, i:]
        W[:, cols] = part
        W[:, cols.stop :] -= errors @ U[cols, cols.stop :]
    return W * keep, keep


@dataclass(frozen=True)
class SparseGPT(Solve):
    block: int = 128

    @property
    def needs(self):
        return (InputGram(),)

    def __call__(self, group, stats, count):
        W, keep = sparsegpt(group.weight, stats[group, InputGram()], count, self.block)
        value = group.site.fold(W.to(group.site.tensor.dtype))
        return Choice(Keep({group.name: keep}), {group.name: value})


@pytest.fixture
def setting():
    g = torch.Generator().manual_seed(0)
    mixing = torch.randn(24, 24, generator=g)
    x = torch.randn(256, 24, generator=g) @ mixing  # correlated inputs, or there is nothing to repair with
    model = nn.Sequential(nn.Linear(24, 16))
    data = [(x[i : i + 64], torch.zeros(64, dtype=torch.long)) for i in range(0, 256, 64)]
    return model, x, sc.Task(train=data, test=data)


@pytest.mark.parametrize("block", [128, 8])
def test_it_removes_exactly_what_was_asked_and_repairs_the_rest(setting, block):
    model, x, task = setting
    plain = copy.deepcopy(model)
    dense = model(x).detach()
    recipe = sc.Recipe(structure=sc.structures.Weights(), solve=SparseGPT(block), budget=sc.budgets.Uniform())
    result = sc.prune(model, recipe, sparsity=0.5, task=task)
    weight = result.subject[0].weight
    assert int((weight == 0).sum()) == weight.numel() // 2
    assert result.keep.counts == {"0.weight": weight.numel() // 2}
    magnitude = sc.prune(plain, "magnitude", sparsity=0.5).subject
    assert _error(result.subject, x, dense) < _error(magnitude, x, dense)


def _error(model, x, dense):
    return (model(x) - dense).square().mean()


def test_one_block_equals_brain_surgery_column_by_column():
    g = torch.Generator().manual_seed(1)
    x = torch.randn(64, 6, generator=g).double() @ torch.randn(6, 6, generator=g).double()
    W, H = torch.randn(3, 6, generator=g).double(), x.T @ x / 64
    fast, keep = sparsegpt(W, H, 9)
    damped = 2 * H + 0.01 * (2 * H).diagonal().mean() * torch.eye(6)
    slow = W.clone()
    for row in range(3):  # optimal brain surgeon, restricted to the columns still to come
        for i in range(6):
            if keep[row, i]:
                continue
            inverse = torch.linalg.inv(damped[i:, i:])
            slow[row, i:] -= slow[row, i] / inverse[0, 0] * inverse[:, 0]
    torch.testing.assert_close(fast, slow * keep)


def test_a_budget_that_ranks_scores_is_refused_because_a_solver_gives_none(setting):
    model, _, task = setting
    recipe = sc.Recipe(structure=sc.structures.Weights(), solve=SparseGPT(), budget=sc.budgets.Global())
    with pytest.raises(sc.RecipeError, match="ranks scores"):
        sc.prune(model, recipe, sparsity=0.5, task=task)
