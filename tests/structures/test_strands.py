"""Count-locked units through the public API: each group of a grouped convolution loses what matters least in it."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import Choice, Keep, NumericsError, RecipeError, SubjectError
from secateur.core import strands as core_strands
from secateur.recovery import cut_alike
from secateur.structures import Channels

GROUPS, EACH = 4, 4


class Grouped(nn.Module):
    """A stem of 16 channels, read in 4 groups by a convolution that makes 8; a classifier."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, GROUPS * EACH, 3, padding=1, bias=False), nn.BatchNorm2d(GROUPS * EACH)
        self.grouped = nn.Conv2d(GROUPS * EACH, 8, 3, padding=1, groups=GROUPS)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(torch.relu(self.grouped(x)).mean((2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = Grouped().eval()
    with torch.no_grad():
        made.norm.bias.uniform_(-0.5, 0.5)
    return made


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def seeing(images, **settings):
    return Channels(**settings).seeing(lambda m: m(images))


def drawn(count=2, seed=0):
    """Other channels of each group."""
    g = torch.Generator().manual_seed(seed)
    order = torch.rand(GROUPS, EACH, generator=g).argsort(1)
    return torch.zeros(GROUPS, EACH, dtype=torch.bool).scatter_(1, order[:, :count], True)


def test_the_smaller_model_is_the_dense_one_whose_groups_read_zeros_each_in_other_channels(model, images):
    dense, stays = copy.deepcopy(model), drawn()
    assert any(not torch.equal(a, b) for a, b in pairwise(stays))
    dense.grouped.register_forward_pre_hook(lambda _, args: (args[0] * stays.flatten()[None, :, None, None],))
    seeing(images).apply_(model, Choice(Keep({"stem": stays})))
    assert model.grouped.weight.shape == (8, 2, 3, 3) and model.stem.weight.shape == (8, 3, 3, 3)
    torch.testing.assert_close(model(images), dense(images))


def test_each_group_loses_its_own_weakest(model, images):
    weak = torch.tensor([0, 2, 1, 3])
    with torch.no_grad():
        model.stem.weight.view(GROUPS, EACH, -1)[torch.arange(GROUPS), weak] *= 0.1
        model.norm.weight.view(GROUPS, EACH)[torch.arange(GROUPS), weak] *= 0.1
    structure = Channels(include=("stem",), kinds=("channels",))
    result = sc.prune(model, "magnitude", sparsity=0.25, structure=structure, example=images)
    assert (~result.keep["stem"]).nonzero().tolist() == [[k, int(weak[k])] for k in range(GROUPS)]


def test_locked_by_index_all_groups_lose_the_same(model, images):
    structure = Channels(include=("stem",), kinds=("channels",), lock="index")
    result = sc.prune(model, "magnitude", sparsity=0.25, structure=structure, example=images)
    assert result.keep["stem"].shape == (EACH,)


def test_what_is_lost_weighs_no_more_than_with_groups_that_lose_the_same(model, images):
    kept = {}
    for lock in ("count", "index"):
        structure = Channels(include=("stem",), kinds=("channels",), lock=lock)
        result = sc.prune(copy.deepcopy(model), "magnitude", sparsity=0.5, structure=structure, example=images)
        kept[lock] = float(result.subject.stem.weight.detach().square().sum())
    assert kept["count"] > kept["index"]


@pytest.mark.parametrize("budget", [sc.budgets.Global(), sc.budgets.Uniform(), sc.budgets.Knapsack()])
@pytest.mark.parametrize("score", [sc.scores.Magnitude(2), sc.scores.FoldedNorm(), sc.scores.NormScale()])
def test_scores_and_budgets_of_all_kinds_choose_strands(score, budget, model, images):
    recipe = sc.Recipe(structure=Channels(include=("stem",), kinds=("channels",)), score=score, budget=budget)
    result = sc.prune(model, recipe, sparsity=0.5, example=images)
    assert result.keep["stem"].sum(1).tolist() == [2] * GROUPS
    assert model.grouped.weight.shape == (8, 2, 3, 3)


def test_moments_go_on_with_the_values_of_their_strands(model, images):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=1.0)
    model(images).sum().backward()
    optimizer.step()
    stem = optimizer.state[model.stem.weight]["momentum_buffer"].clone()
    grouped = optimizer.state[model.grouped.weight]["momentum_buffer"].clone()
    stays = drawn()
    seeing(images).apply_(model, Choice(Keep({"stem": stays})))
    optimizer.zero_grad()
    optimizer.step()
    assert torch.equal(optimizer.state[model.stem.weight]["momentum_buffer"], stem[stays.flatten()])
    by_group = torch.cat([grouped[2 * k : 2 * k + 2][:, stays[k]] for k in range(GROUPS)])
    assert torch.equal(optimizer.state[model.grouped.weight]["momentum_buffer"], by_group)


def test_the_tensors_of_another_model_are_cut_alike(model, images):
    space, stays = seeing(images).find(model), Keep({"stem": drawn()})
    wanted = cut_alike(dict(copy.deepcopy(model.state_dict())), space, stays)
    seeing(images).apply_(model, Choice(stays))
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())


def test_a_copy_is_cut_as_several_moves_cut_the_model(model, images):
    dense = copy.deepcopy(model)
    recipe = sc.Recipe(
        structure=Channels(),
        score=sc.scores.Magnitude(2),
        budget=sc.budgets.Global(),
        schedule=sc.schedules.CubicGradual(every=2),
    )
    pruner = sc.Pruner(model, recipe, total_steps=12, sparsity=0.5, example=images)
    for _ in range(12):
        pruner.step()
    assert len({h["sparsity"] for h in pruner._core.history}) > 2
    twin = pruner._core.cut_(dense)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in twin.state_dict().items())


def test_the_keep_of_a_result_cuts_another_copy_alike_where_groups_went_too(model, images):
    dense = copy.deepcopy(model)
    result = sc.prune(model, "magnitude", macs=0.4, structure="channels", example=images)
    groups = result.keep["stem/groups"]
    assert not groups.all() and not result.keep["stem"][~groups].any()
    seeing(images).apply_(dense, Choice(result.keep))
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in dense.state_dict().items())


def test_it_is_saved_and_loaded(model, images, tmp_path):
    sc.prune(model, "magnitude", macs=0.5, structure="channels", example=images).save(tmp_path / "small")
    loaded = sc.load(tmp_path / "small", factory=Grouped)
    assert torch.equal(loaded(images), model.eval()(images))


def test_a_keep_whose_groups_lose_unlike_numbers_is_refused_and_nothing_changes(model, images):
    before, stays = copy.deepcopy(model.state_dict()), drawn()
    stays[1, :] = torch.tensor([True, False, False, False])
    with pytest.raises(SubjectError, match=r"its 4 lanes keep from 1 to 2 of their 4 units\n.*group 'stem'"):
        seeing(images).apply_(model, Choice(Keep({"stem": stays})))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_keep_that_empties_a_group_which_stays_is_refused(model, images):
    stays = drawn()
    stays[2] = False
    with pytest.raises(SubjectError, match="nothing would stay of lane 2"):
        seeing(images).apply_(model, Choice(Keep({"stem": stays})))


def test_an_order_that_changes_the_function_is_taken_back(model, images, monkeypatch):
    before = copy.deepcopy(model.state_dict())
    reordered = core_strands.reordered

    def forgetful(tensor, member, order):
        return tensor if member.group.name == "norm.weight" else reordered(tensor, member, order)

    monkeypatch.setattr(core_strands, "reordered", forgetful)
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)
    before["norm.weight"] = model.norm.weight.detach().clone()
    with pytest.raises(NumericsError, match="another order computes something else"):
        seeing(images).apply_(model, Choice(Keep({"stem": drawn()})))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_unknown_lock_is_refused():
    with pytest.raises(RecipeError, match="there is no lock 'rows'"):
        Channels(lock="rows")


def by_hand(model, of):
    """For each channel of each group, a number of its row of the stem and its columns of the grouped convolution."""
    each = len(model.grouped.weight) // GROUPS
    weight = model.grouped.weight.detach().double()
    found = [
        of(model.stem.weight.detach().double()[k * EACH + u], weight[k * each : (k + 1) * each, u])
        for k in range(GROUPS)
        for u in range(EACH)
    ]
    return torch.stack(found)


def test_strands_are_scored_by_their_own_rows_and_columns(model, images):
    group = core_strands.apart(seeing(images).find(model)["stem"])
    score = sc.scores.Coupled(sc.scores.Magnitude(2), over="sum", normalize="none", roles=("producer", "consumer"))
    wanted = by_hand(model, lambda row, columns: row.square().sum() + columns.square().sum())
    torch.testing.assert_close(score(group, sc.core.Stats()).double(), wanted, rtol=1e-5, atol=1e-6)


def test_readers_of_strands_are_scored_by_their_own_columns(model, images):
    group = core_strands.apart(seeing(images).find(model)["stem"])
    wanted = by_hand(model, lambda _, columns: columns.flatten(1).norm(dim=0).sum())
    torch.testing.assert_close(sc.scores.MagSP()(group, sc.core.Stats()), wanted)
