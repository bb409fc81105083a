"""DepGraph: the group score on a small network. The paper's claim is in secateur/claims/depgraph.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import Stats, registry
from secateur.recovery import GroupSparsity
from secateur.schedules import Stepwise
from secateur.scores.coupled import combined, normalized
from secateur.structures import Channels

seeds = st.integers(0, 2**16)


class Residual(nn.Module):
    """Channels that lie in a stream: two producers, a norm, and a classifier that reads each of them 4 times."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 1)
        self.branch = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.norm(self.branch(x))).flatten(1))


EXAMPLE = torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(0))


def model(seed=0):
    torch.manual_seed(seed)
    net = Residual().double()
    nn.init.uniform_(net.norm.weight)
    return net


def score(net, **settings):
    (group,) = Channels().find(net, EXAMPLE.double())
    return registry.get("depgraph").recipe(**settings).score(group, Stats())


@given(seeds, st.sampled_from([1.0, 2.0]))
def test_equals_the_formula_written_as_loops(seed, p):
    net = model(seed)
    slices = [
        [
            net.stem.weight[k],
            net.branch.weight[k],
            net.branch.weight[:, k],
            net.norm.weight[k],
            net.head.weight[:, 4 * k : 4 * k + 4],  # a flattened channel is read four times
        ]
        for k in range(3)
    ]
    raw = torch.stack([sum(w.abs().pow(p).sum() for w in mine) / len(mine) for mine in slices]).detach()
    torch.testing.assert_close(score(net, p=p), raw / raw.mean())


@given(seeds)
def test_scaling_all_tensors_of_a_group_alike_changes_no_score(seed):
    net = model(seed)
    before = score(net)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(7.0)
    torch.testing.assert_close(score(net), before)


@given(seeds, st.permutations(range(3)))
def test_permuting_the_channels_permutes_the_scores(seed, order):
    net, other = model(seed), model(seed)
    columns = torch.arange(12).reshape(3, 4)[list(order)].flatten()
    with torch.no_grad():
        other.stem.weight.copy_(net.stem.weight[order])
        other.branch.weight.copy_(net.branch.weight[order][:, order])
        other.norm.weight.copy_(net.norm.weight[order])
        other.head.weight.copy_(net.head.weight[:, columns])
    torch.testing.assert_close(score(other), score(net)[list(order)])


@pytest.mark.parametrize("reduction", ["mean", "sum", "max", "prod", "first"])
def test_the_reduction_of_one_member_is_that_member(reduction):
    assert torch.equal(combined(torch.tensor([[3.0, 1.0]]), reduction), torch.tensor([3.0, 1.0]))


@pytest.mark.parametrize("normalizer", ["none", "mean", "max", "sum", "min-max", "standard", "lamp"])
@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [2.0, 2.0], [5.0]])
def test_units_that_are_all_alike_get_finite_scores(normalizer, values):
    assert normalized(torch.tensor(values), normalizer).isfinite().all()


def test_all_the_same_weights_still_prune_to_the_target():
    net = model()
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
    assert sc.prune(net, "depgraph", sparsity=0.34, example=EXAMPLE.double()).keep.counts == {"stem": 2}


def test_several_cuts_end_where_one_does_in_number():
    one, many = (
        sc.prune(model(), "depgraph", sparsity=0.67, steps=n, example=EXAMPLE.double()).keep.counts for n in (1, 5)
    )
    assert one == many == {"stem": 1}


def test_the_members_of_a_group_that_is_excluded_stay_and_are_named():
    result = Channels(exclude=("head",)).find(model(), EXAMPLE.double())
    assert not len(result) and result.skipped["stem"] == "excluded"


def test_sparse_training_comes_before_the_cut():
    recipe = registry.get("depgraph").recipe(sparse=3, epochs=2)
    assert recipe.schedule == Stepwise(1, "3.0 epochs")
    finetune, sparsity = recipe.recovery
    assert finetune.epochs == 5 and isinstance(sparsity, GroupSparsity) and sparsity.epochs == 3
