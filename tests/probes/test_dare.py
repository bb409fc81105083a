"""Probe: DARE. The subject is a pair of models, the units are entries of their difference, the repair is a rescale."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import Choice, Group, Keep, Plan, Site, Solve, Space, Structure, SubjectError, kept_count


@dataclass(frozen=True)
class DeltaWeights(Structure):
    """Entries of tuned - base in every shared matrix."""

    def find(self, subject):
        if not isinstance(subject, sc.Delta):
            raise SubjectError("not a pair", where="structure 'delta-weights'", mend="give sc.Delta(base, tuned)")
        sites = [Site(name, tuned - base) for name, base, tuned in subject.pairs() if base.dim() >= 2]
        return Space(tuple(Group(s.name, s.shape, site=s) for s in sites))

    @torch.no_grad()
    def apply_(self, subject, choice):
        """The merged model: base plus what is left of the delta; the pair itself stays as it was."""
        merged = copy.deepcopy(subject.tuned)
        base = dict(subject.base.named_parameters())
        for name, delta in choice.values.items():
            merged.get_parameter(name).copy_(base[name] + delta)
        return merged, Plan()


@dataclass(frozen=True)
class Dare(Solve):
    """Each entry stays with probability 1 - p, and what stays is divided by 1 - p (Yu et al. 2024, equation 2)."""

    def __call__(self, group, stats, count):
        share = count / group.lane
        draw = torch.rand(group.shape, generator=stats.rng(group, "dare"))
        keep = draw < share
        delta = group.weight * keep / share
        return Choice(Keep({group.name: keep}), {group.name: group.site.fold(delta)})


@pytest.fixture
def pair():
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for p in tuned.parameters():
            p += 0.01 * torch.randn_like(p)
    return sc.Delta(base, tuned)


def recipe():
    return sc.Recipe(structure=DeltaWeights(), solve=Dare(), budget=sc.budgets.Uniform())


def test_what_stays_of_the_delta_is_rescaled_and_the_rest_is_the_base(pair):
    result = sc.prune(pair, recipe(), sparsity=0.75)
    for name, base, tuned in pair.pairs():
        if base.dim() < 2:
            continue
        share = kept_count(0.75, base.numel()) / base.numel()
        merged = result.subject.get_parameter(name).detach()
        torch.testing.assert_close(merged, torch.where(result.keep[name], base + (tuned - base) / share, base))


def test_the_mean_over_masks_is_the_tuned_model(pair):
    merged = [sc.prune(pair, recipe(), sparsity=0.5, seed=s).subject[0].weight.detach() for s in range(200)]
    expected = pair.tuned[0].weight.detach()
    spread = (expected - pair.base[0].weight.detach()).abs().max() / 200**0.5
    assert (torch.stack(merged).mean(0) - expected).abs().max() < 5 * spread


def test_masks_depend_on_the_tensor_name_so_that_a_part_of_the_model_gets_the_same(pair):
    whole = sc.prune(pair, recipe(), sparsity=0.5, seed=3).keep
    small = sc.Delta(nn.Sequential(pair.base[0]), nn.Sequential(pair.tuned[0]))
    part = sc.prune(small, recipe(), sparsity=0.5, seed=3).keep
    assert torch.equal(whole["0.weight"], part["0.weight"])


def test_the_pair_itself_is_left_alone(pair):
    before = copy.deepcopy(pair.tuned.state_dict())
    sc.prune(pair, recipe(), sparsity=0.9)
    assert all(torch.equal(v, before[k]) for k, v in pair.tuned.state_dict().items())


def test_a_single_model_is_refused(pair):
    with pytest.raises(SubjectError, match="not a pair"):
        sc.prune(pair.tuned, recipe(), sparsity=0.5)
