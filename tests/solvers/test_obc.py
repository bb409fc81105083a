"""OBC against surgery that tries everything and writes every inverse out, and against restricted least squares."""

import copy
import heapq

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.core import Group, InputGram, InputTokens, RecipeError, Site, Stats, Task
from secateur.core.spd import damped_factor
from secateur.solvers.obc import OBC, cut_back, merged, trace


def problem(seed, rows, n, tokens=64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, n, generator=g, dtype=torch.float64) @ torch.randn(n, n, generator=g, dtype=torch.float64)
    H = 2 * x.T @ x / tokens
    H = H + 0.01 * H.diagonal().mean() * torch.eye(n, dtype=torch.float64)
    return torch.randn(rows, n, generator=g, dtype=torch.float64), H, torch.linalg.inv(H)


def refit(w, H, gone):
    """The best weights in which these are zero: rows of `w` against their dense selves."""
    S = [j for j in range(H.shape[0]) if j not in gone]
    best = torch.zeros_like(w)
    if S:
        best[..., S] = torch.linalg.solve(H[S][:, S], H[S] @ w.T).T
    return best


def error(W, new, H):
    return float(((W - new) @ H * (W - new)).sum()) / 2


def slow(w, H, width, steps, allowed=lambda gone, unit: True):
    """Greedy over blocks of columns of a few rows: at each step every unit is tried by solving the problem anew."""
    gone, order, losses = [], [], []
    for _ in range(steps):
        before = error(w, refit(w, H, columns(gone, width)), H)
        tried = {
            u: error(w, refit(w, H, columns([*gone, u], width)), H) - before
            for u in range(w.shape[1] // width)
            if u not in gone and allowed(gone, u)
        }
        least = min(tried, key=tried.get)
        gone.append(least)
        order.append(least)
        losses.append(tried[least])
    return order, losses, refit(w, H, columns(gone, width))


def columns(units, width):
    return [u * width + i for u in units for i in range(width)]


sizes = st.tuples(st.integers(1, 4), st.sampled_from([4, 8]), st.integers(0, 1000))


@given(sizes, st.integers(1, 3))
@settings(deadline=None, max_examples=25)
def test_each_step_takes_the_weight_whose_best_repair_costs_least(size, batch):
    rows, n, seed = size
    W, H, inverse = problem(seed, rows, n)
    found = trace(W, inverse, n - 1, batch=batch)
    for row in range(rows):
        order, losses, weight = slow(W[row : row + 1], H, 1, n - 1)
        assert found.order[row].tolist() == order
        torch.testing.assert_close(found.loss[row], torch.tensor(losses, dtype=torch.float64), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found.weight[row : row + 1], weight, rtol=1e-6, atol=1e-8)


@given(sizes)
@settings(deadline=None, max_examples=25)
def test_it_is_the_update_written_with_the_inverse_itself(size):
    rows, n, seed = size
    W, _, inverse = problem(seed, rows, n)
    found = trace(W, inverse, n // 2)
    for row in range(rows):
        w, A = W[row].clone(), inverse.clone()
        for p in found.order[row].tolist():
            w -= w[p] / A[p, p] * A[:, p]
            A -= torch.outer(A[:, p], A[p]) / A[p, p]
            A[p, p] = torch.inf  # so that it is never looked at again
            w[p] = 0
        torch.testing.assert_close(found.weight[row], w, rtol=1e-6, atol=1e-8)


@given(sizes)
@settings(deadline=None, max_examples=25)
def test_after_one_removal_it_is_restricted_least_squares(size):
    rows, n, seed = size
    W, H, inverse = problem(seed, rows, n)
    found = trace(W, inverse, 1)
    for row in range(rows):
        best = refit(W[row : row + 1], H, found.order[row].tolist())
        torch.testing.assert_close(found.weight[row : row + 1], best, rtol=1e-6, atol=1e-6)


@given(sizes, st.sampled_from([(1, 2), (2, 1), (2, 2), (1, 4)]))
@settings(deadline=None, max_examples=25)
def test_blocks_go_as_a_whole_and_their_rows_go_together(size, tile):
    rows, n, seed = size
    W, H, inverse = problem(seed, rows * tile[0], n)
    steps = n // tile[1] - 1
    found = trace(W, inverse, steps, tile=tile)
    for band in range(rows):
        part = slice(band * tile[0], (band + 1) * tile[0])
        order, losses, weight = slow(W[part], H, tile[1], steps)
        assert found.order[band].tolist() == order
        torch.testing.assert_close(found.loss[band], torch.tensor(losses, dtype=torch.float64), rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(found.weight[part], weight, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (3, 4)])
def test_patterns_lose_no_more_than_they_may(n, m):
    W, H, inverse = problem(0, 5, 16)
    steps = 16 // m * (m - n)
    found = trace(W, inverse, steps, lane=(m, m - n))

    def allowed(gone, unit):
        return sum(g // m == unit // m for g in gone) < m - n

    for row in range(5):
        order, _, weight = slow(W[row : row + 1], H, 1, steps, allowed)
        assert found.order[row].tolist() == order
        torch.testing.assert_close(found.weight[row : row + 1], weight)
    assert ((found.weight != 0).reshape(5, -1, m).sum(-1) == n).all()


@given(st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=5), st.floats(0, 1))
@settings(deadline=None, max_examples=100)
def test_merging_takes_the_row_whose_next_step_costs_least(losses, share):
    loss = torch.tensor([[10.0 * v + i for v in row] for i, row in enumerate(losses)], dtype=torch.float64)
    count = round(share * loss.numel())
    taken, heap = [0] * len(loss), [(float(row[0]), i) for i, row in enumerate(loss)]
    heapq.heapify(heap)
    for _ in range(count):
        _, row = heapq.heappop(heap)
        taken[row] += 1
        if taken[row] < loss.shape[1]:
            heapq.heappush(heap, (float(loss[row, taken[row]]), row))
    assert merged(loss, count).tolist() == taken


@given(sizes, st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2)]))
@settings(deadline=None, max_examples=25)
def test_one_trace_serves_every_number_of_removals(size, tile):
    rows, n, seed = size
    W, _, inverse = problem(seed, rows * tile[0], n)
    units = n // tile[1]
    whole = trace(W, inverse, units, tile=tile)
    for steps in range(units + 1):
        part = trace(W, inverse, steps, tile=tile)
        assert torch.equal(whole.order[:, :steps], part.order)
        again = cut_back(W, inverse, whole, torch.full((rows,), steps), tile)
        torch.testing.assert_close(again, part.weight, rtol=1e-6, atol=1e-7)


@given(sizes, st.floats(0.2, 0.8))
@settings(deadline=None, max_examples=25)
def test_its_error_lies_between_the_best_refit_and_no_repair(size, share):
    rows, n, seed = size
    W, H, inverse = problem(seed, rows, n)
    steps = max(1, round(share * n))
    found = trace(W, inverse, steps)
    for row in range(rows):
        w, gone = W[row : row + 1], found.order[row].tolist()
        mine = error(w, found.weight[row : row + 1], H)
        assert mine == pytest.approx(float(found.loss[row].sum()), rel=1e-6, abs=1e-9)
        assert mine >= error(w, refit(w, H, gone), H) * (1 - 1e-6) - 1e-9
        bare = w.clone()
        bare[0, gone] = 0
        assert mine <= error(w, bare, H) * (1 + 1e-6) + 1e-9


def group_of(W, lanes=1, tile=(1, 1), exact=None):
    site = Site("w", W, tile=tile)
    return Group("w", site.shape, lanes=lanes, exact=exact, site=site)


def stats_of(x):
    gram = InputGram()
    group = group_of(torch.zeros(1, x.shape[1]))
    state = gram.update(gram.zero(group), sc.core.stats.Forward(x, x))
    return Stats({("w", gram): gram.value(state), ("w", InputTokens()): torch.tensor(len(x))})


@pytest.mark.parametrize("lanes", [1, 6])
def test_it_errs_less_than_half_as_much_as_magnitude_on_correlated_inputs(lanes):
    g = torch.Generator().manual_seed(0)
    x = (torch.randn(400, 24, generator=g) @ torch.randn(24, 24, generator=g)).double()
    W = torch.randn(6, 24, generator=g).double()
    choice = OBC()(group_of(W, lanes), stats_of(x), W.numel() // 2 // lanes)
    assert choice.keep.counts == {"w": W.numel() // 2}
    new = choice.values["w"]
    assert torch.equal(new != 0, choice.keep["w"])
    small = W * (W.abs() > W.abs().flatten().median())
    assert (x @ (W - new).T).square().mean() < 0.5 * (x @ (W - small).T).square().mean()


def test_dead_inputs_lose_their_weights_first():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=g, dtype=torch.float64)
    x[:, 3] = 0
    W = torch.randn(4, 8, generator=g, dtype=torch.float64)
    choice = OBC()(group_of(W), stats_of(x), 28)
    assert not choice.keep["w"][:, 3].any() and choice.keep.counts == {"w": 28}


def test_what_is_zero_already_goes_first_and_changes_nothing():
    W, H, _ = problem(0, 3, 8)
    W[:, 2] = 0
    U, _ = damped_factor(H, 0.01)
    found = trace(W, U.T @ U, 1)
    assert found.order.flatten().tolist() == [2, 2, 2]
    torch.testing.assert_close(found.weight, W)


def test_how_many_rows_are_worked_on_at_once_does_not_matter():
    g = torch.Generator().manual_seed(0)
    x, W = torch.randn(300, 128, generator=g).double(), torch.randn(40, 128, generator=g).double()
    few = OBC(memory_mib=1)(group_of(W), stats_of(x), 2000)
    many = OBC(memory_mib=64)(group_of(W), stats_of(x), 2000)
    assert few.keep == many.keep
    torch.testing.assert_close(few.values["w"], many.values["w"])


def task_of(x):
    return Task(train=[(x, torch.zeros(len(x)))], test=[(x[:1], torch.zeros(1))], metrics={}, loss=lambda o, b: o.sum())


@pytest.mark.parametrize("structure", ["weights", "2:4", "1x4", "2x2"])
@pytest.mark.parametrize("propagation", ["whole", "pruned"])
def test_convolutions_are_solved_in_the_order_of_their_structure(structure, propagation):
    g = torch.Generator().manual_seed(0)
    mixed = torch.einsum("nchw,cd->ndhw", torch.randn(32, 4, 12, 12, generator=g), torch.rand(4, 4, generator=g))
    x = nn.functional.avg_pool2d(mixed, 3, stride=2)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    dense, sparsity = model(x).detach(), None if structure == "2:4" else 0.5
    plain = sc.prune(copy.deepcopy(model), "magnitude", structure=structure, sparsity=sparsity)
    mine = sc.prune(model, "obc", structure=structure, sparsity=sparsity, propagation=propagation, task=task_of(x))
    assert mine.sparsity["sparsity"] == 0.5
    assert (mine.subject(x) - dense).square().mean() < 0.5 * (plain.subject(x) - dense).square().mean()


def test_linear_layers_that_store_their_matrix_turned_are_solved_alike():
    from transformers.pytorch_utils import Conv1D

    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=g) @ torch.randn(8, 8, generator=g)
    torch.manual_seed(0)
    plain, turned = nn.Linear(8, 6), Conv1D(6, 8)
    with torch.no_grad():
        turned.weight.copy_(plain.weight.T)
        turned.bias.copy_(plain.bias)
    results = [sc.prune(nn.Sequential(m), "obc", sparsity=0.5, task=task_of(x)).subject for m in (plain, turned)]
    torch.testing.assert_close(results[0][0].weight, results[1][0].weight.T)


def test_blocks_hear_what_pruned_blocks_before_them_give():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(256, 16, generator=g) @ torch.randn(16, 16, generator=g)
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(3)))
    dense = model(x).detach()
    errors = {}
    for how in ("whole", "pruned"):
        result = sc.prune(copy.deepcopy(model), "obc", sparsity=0.6, propagation=how, task=task_of(x))
        errors[how] = float((result.subject(x).detach() - dense).square().mean())
    assert errors["pruned"] < errors["whole"]


def test_rows_may_each_lose_as_many():
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    result = sc.prune(nn.Sequential(nn.Linear(8, 6)), "obc", per="row", sparsity=0.5, task=task_of(x))
    assert (result.keep["0.weight"].sum(1) == 4).all()


def test_units_that_are_no_weights_are_refused():
    group = Group("conv", (4,))
    with pytest.raises(RecipeError, match="OBC prunes weights"):
        OBC()(group, Stats(), 2)


@pytest.mark.parametrize("wrong", [{"damping": 0.0}, {"damping": float("nan")}, {"memory_mib": 0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(RecipeError, match=r"damping=0\.01"):
        OBC(**wrong)
