"""OBSPA: block OBS against least squares, and what is refitted. The paper's claims are in secateur/claims/obspa.py."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.calibration import Noise, collect
from secateur.core import InputGram, Keep, Stats, Task
from secateur.core.second_moments import as_matrix, as_tensor, damped_inverse
from secateur.recovery.obs import ObsUpdate, refitted
from secateur.scores.obs import ObsError, block_errors
from secateur.structures import Channels

seeds = st.integers(0, 2**16)


def draw(out, units, width, seed):
    """Weights, correlated inputs as columns, and their H^-1 = (2/N X X^T)^-1 without damping."""
    g = torch.Generator().manual_seed(seed)
    K = units * width
    mix = torch.eye(K, dtype=torch.float64) + 0.5 * torch.randn(K, K, generator=g, dtype=torch.float64) / K**0.5
    X = mix @ torch.randn(K, 40 * K, generator=g, dtype=torch.float64)
    W = torch.randn(out, K, generator=g, dtype=torch.float64)
    return W, X, damped_inverse(X @ X.T / X.shape[1], 0.0)


shapes = st.tuples(st.integers(1, 4), st.integers(2, 5), st.sampled_from([1, 4]))


@given(shapes, seeds, st.data())
def test_a_refit_is_the_least_squares_fit_on_the_surviving_inputs(shape, seed, data):
    out, units, width = shape
    W, X, inverse = draw(out, units, width, seed)
    lost = data.draw(st.lists(st.booleans(), min_size=units, max_size=units).filter(lambda b: not all(b)))
    gone = torch.tensor(lost).repeat_interleave(width)
    new = refitted(W, inverse, gone)
    stays = X[~gone]
    best = torch.linalg.lstsq(stays.T, (W @ X).T).solution.T
    assert (new[:, ~gone] - best).abs().max() < 1e-12
    assert (new[:, gone] == 0).all()


@given(shapes, seeds)
def test_an_error_is_twice_the_mean_squared_error_of_the_refitted_layer(shape, seed):
    out, units, width = shape
    W, X, inverse = draw(out, units, width, seed)
    columns = torch.arange(units * width).reshape(units, width)
    found = block_errors(W, inverse, columns)
    for unit in range(units):
        gone = torch.zeros(units * width, dtype=torch.bool)
        gone[columns[unit]] = True
        change = (refitted(W, inverse, gone) - W) @ X
        assert found[unit] == pytest.approx(2 * float(change.square().sum()) / X.shape[1], rel=1e-9, abs=1e-12)


@given(shapes, seeds)
def test_of_single_columns_it_is_the_square_over_the_diagonal(shape, seed):
    W, _, inverse = draw(shape[0], shape[1], 1, seed)
    slow = torch.stack([(W[:, j] ** 2).sum() / inverse[j, j] for j in range(shape[1])])
    torch.testing.assert_close(block_errors(W, inverse, torch.arange(shape[1])[:, None]), slow)


def test_a_block_is_not_the_sum_of_its_columns():
    W, _, inverse = draw(3, 3, 4, 0)
    columns = torch.arange(12)
    single = block_errors(W, inverse, columns[:, None]).reshape(3, 4).sum(1)
    assert not torch.allclose(block_errors(W, inverse, columns.reshape(3, 4)), single, rtol=0.05)


@given(seeds)
def test_independent_inputs_need_no_refit(seed):
    W, _, _ = draw(2, 4, 1, seed)
    gone = torch.tensor([True, False, False, True])
    assert torch.equal(refitted(W, torch.eye(4, dtype=torch.float64), gone), W.masked_fill(gone, 0))


def test_dead_inputs_are_damped_and_nothing_but_zeros_is_refused():
    gram = torch.diag(torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64))
    assert damped_inverse(gram, 0.01).isfinite().all()
    with pytest.raises(sc.NumericsError, match="second moments"):
        damped_inverse(torch.zeros(2, 2, dtype=torch.float64), 0.01, "fc.weight")
    with pytest.raises(sc.NumericsError, match=r"fc\.weight"):
        damped_inverse(torch.full((2, 2), float("nan"), dtype=torch.float64), 0.01, "fc.weight")


class Net(nn.Module):
    """Two convolutions that read one stem, and a classifier that reads each channel of them four times."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.a = nn.Conv2d(4, 3, 3, padding=1)
        self.b = nn.Conv2d(4, 3, 1)
        self.head = nn.Linear(12, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.relu(self.a(x) + self.b(x)).flatten(1))


def net():
    torch.manual_seed(0)
    return Net().double()


def inputs(count=64):
    return torch.randn(count, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def task():
    batch = (inputs(), torch.zeros(64, dtype=torch.long))
    return Task(train=[batch], test=[batch])


def space_and_stats(model):
    space = Channels().find(model, inputs(2))
    return space, Stats(collect(model, space.leaves(), (InputGram(),), task(), task().batches()))


def test_slices_become_the_matrix_that_the_inputs_meet_and_back():
    model = net()
    space, _ = space_and_stats(model)
    members = {(m.group.name, m.dim): m.group for g in space for m in g.members}
    for name, width in (("a.weight", 9), ("b.weight", 1), ("head.weight", 1)):
        weight, slices = model.get_parameter(name).detach(), members[name, 1]
        matrix = as_matrix(slices, width)
        assert torch.equal(matrix, weight.flatten(1))
        assert torch.equal(as_tensor(matrix, slices, width), weight)


def test_a_unit_is_scored_by_all_its_readers_each_scaled_by_its_mean():
    model = net()
    space, stats = space_and_stats(model)
    found = []
    for layer in (model.a, model.b):
        x = nn.functional.unfold(model.stem(inputs()).detach(), layer.kernel_size, padding=layer.padding)
        X = x.transpose(0, 1).flatten(1)
        width = X.shape[0] // 4
        inverse = damped_inverse(X @ X.T / X.shape[1], 0.01)
        error = block_errors(layer.weight.detach().flatten(1), inverse, torch.arange(len(X)).reshape(4, width))
        found.append(error / error.mean())
    torch.testing.assert_close(ObsError()(space["stem"], stats), sum(found) / 2)


def test_readers_are_refitted_and_producers_stay_as_they_are():
    model = net()
    space, stats = space_and_stats(model)
    keep = Keep({g.name: torch.arange(g.size) > 0 for g in space})
    values = ObsUpdate().repaired(space, keep, stats)
    assert sorted(values) == ["a.weight", "b.weight", "head.weight"]
    assert (values["a.weight"][:, 0] == 0).all() and (values["head.weight"][:, :4] == 0).all()


def test_what_stays_whole_is_not_touched():
    space, stats = space_and_stats(net())
    assert not ObsUpdate().repaired(space, Keep.all(space), stats)


@torch.no_grad()
def _gap(model, dense):
    return float((model(inputs()) - dense(inputs())).square().mean())


def test_a_refit_loses_less_than_the_same_cut_without_one():
    gaps = []
    for recovery in ((ObsUpdate(),), ()):
        recipe = sc.Recipe(structure=Channels(), score=ObsError(), budget=sc.budgets.Global(), recovery=recovery)
        result = sc.prune(net(), recipe, sparsity=0.4, task=task())
        gaps.append(_gap(result.subject, net()))
    assert gaps[0] < 0.5 * gaps[1]


def test_a_duplicated_channel_goes_without_loss():
    dense = net()
    with torch.no_grad():
        dense.stem.weight[3], dense.stem.bias[3] = dense.stem.weight[1], dense.stem.bias[1]
    model = copy.deepcopy(dense)
    recipe = "obspa"
    result = sc.prune(
        model, recipe, sparsity=0.25, damping=1e-9, rounds=1, include=("stem",), task=task(), batchnorm=0.0
    )
    assert result.keep.counts == {"stem": 3} and _gap(model, dense) < 1e-12


def test_noise_needs_no_data_and_depends_on_the_seed_alone():
    results = [
        sc.prune(net(), "obspa", sparsity=0.3, inputs="noise", example=inputs(2), seed=s).subject.state_dict()
        for s in (0, 0, 1)
    ]
    assert all(torch.equal(v, results[1][k]) for k, v in results[0].items())
    assert any(v.shape != results[2][k].shape or not torch.equal(v, results[2][k]) for k, v in results[0].items())


def test_without_data_or_noise_it_says_what_to_give():
    with pytest.raises(sc.RecipeError, match="task="):
        sc.prune(net(), "obspa", sparsity=0.3, batchnorm=0.0, example=inputs(2))


def test_noise_looks_like_the_example():
    model = nn.Embedding(50, 2)
    example = {"ids": torch.tensor([[1, 2, 3]]), "mask": torch.ones(1, 3, dtype=torch.long), "x": torch.zeros(1, 5)}
    sizes = []
    for batch in Noise(samples=70, batch=32).batches(model, example, seed=0):
        sizes.append(len(batch["ids"]))
        assert batch["ids"].shape[1:] == (3,) and batch["x"].shape[1:] == (5,) and (batch["mask"] == 1).all()
        assert 3 < batch["ids"].amax() < 50 and batch["x"].std() > 0.5
    assert sizes == [32, 32, 6]


@given(seeds)
def test_uniform_noise_has_the_mean_and_the_deviation_of_normal_noise(seed):
    (batch,) = Noise(samples=4000, batch=4000, distribution="uniform").batches(nn.Linear(5, 2), torch.zeros(1, 5), seed)
    assert abs(batch.mean()) < 0.05 and abs(batch.std() - 1) < 0.02 and batch.abs().max() <= 3**0.5


def test_units_that_no_layer_reads_are_named():
    model = nn.Sequential(nn.Embedding(9, 4), nn.LSTM(4, 4, batch_first=True))
    example = torch.randint(9, (2, 3))
    goal = Task(train=[example], test=[example], call=lambda m, b: m(b)[0], loss=lambda y, _: y.mean(), metrics={})
    with pytest.raises(sc.RecipeError, match="no Linear or convolution reads it"):
        sc.prune(model, "obspa", sparsity=0.3, task=goal, batchnorm=0.0)
