"""Which units stay: against a plain sort by (score, flat index)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import RandomPick, TopK, boundary
from secateur.core.select import drop_below

RNG = torch.Generator()
INF = float("inf")
values = st.sampled_from([-INF, -2.0, -1e-40, -0.0, 0.0, 1e-40, 0.5, 1.0, 3.0, INF]) | st.floats(-4, 4, width=32)
dtypes = st.sampled_from([torch.float32, torch.float64])


def sorted_keep(row, count):
    """Sort by (score, index) and drop from the front."""
    order = sorted(range(len(row)), key=lambda i: (row[i], i))
    gone = set(order[: len(row) - count])
    return [i not in gone for i in range(len(row))]


@given(st.data(), st.lists(values, min_size=1, max_size=30), dtypes)
def test_one_lane_keeps_what_a_sort_by_score_and_index_keeps(data, row, dtype):
    count = data.draw(st.integers(0, len(row)))
    score = torch.tensor(row, dtype=dtype)
    assert TopK()(score, count, RNG).tolist() == sorted_keep(score.tolist(), count)


@given(st.data(), st.integers(2, 5), st.integers(1, 8), dtypes)
def test_every_lane_keeps_what_a_sort_of_it_alone_keeps(data, lanes, width, dtype):
    rows = data.draw(st.lists(st.lists(values, min_size=width, max_size=width), min_size=lanes, max_size=lanes))
    count = data.draw(st.integers(0, width))
    score = torch.tensor(rows, dtype=dtype)
    assert TopK()(score, count, RNG).tolist() == [sorted_keep(r, count) for r in score.tolist()]


def test_lanes_of_several_dimensions_keep_their_shape():
    keep = TopK()(torch.arange(24.0).reshape(2, 3, 4), 1, RNG)
    assert keep.tolist() == [[[False, False, False, True]] * 3] * 2


def test_equal_scores_lose_their_first_indices():
    assert TopK()(torch.zeros(5), 2, RNG).tolist() == [False, False, False, True, True]


def test_the_two_zeros_are_one_score():
    assert TopK()(torch.tensor([0.0, -0.0, 0.0, -0.0]), 2, RNG).tolist() == [False, False, True, True]


def big(kind, dtype, n=70_001):
    g = torch.Generator().manual_seed(3)
    draw = torch.randn(n, generator=g, dtype=dtype)
    match kind:
        case "ties":
            return (draw * 8).round() / 8
        case "equal":
            return torch.full((n,), -0.75, dtype=dtype)
        case "zeros":
            return torch.where(draw > 0, 0.0, -0.0).to(dtype)
        case "infinite":
            return torch.where(draw > 1, INF, torch.where(draw < 0, -INF, draw)).to(dtype)
        case "tiny":
            return draw * (1e-42 if dtype == torch.float32 else 1e-310)
        case "close":  # they differ only far below the leading bits
            return 1 + torch.rand(n, generator=g, dtype=dtype) * 1e-5
    return draw


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["random", "ties", "equal", "zeros", "infinite", "tiny", "close"])
@pytest.mark.parametrize("drop", [0, 1, 35_000, 63_123, 70_000, 70_001])
def test_a_large_lane_keeps_what_a_stable_sort_keeps(kind, dtype, drop):
    score = big(kind, dtype)
    slow = torch.ones(len(score), dtype=torch.bool)
    slow[torch.argsort(score, stable=True)[:drop]] = False
    assert torch.equal(TopK()(score, len(score) - drop, RNG), slow)


@given(st.data(), st.lists(st.lists(values, max_size=8), min_size=1, max_size=4))
def test_the_boundary_of_several_tensors_is_that_of_their_concatenation(data, rows):
    tensors = [torch.tensor(r) for r in rows]
    pool = sorted(v for t in tensors for v in t.tolist())
    drop = data.draw(st.integers(0, len(pool)))
    value, ties = boundary(tensors, drop)
    if drop == 0:
        assert (value, ties) == (-INF, 0)
    else:
        assert (value, ties) == (pool[drop - 1], drop - sum(v < pool[drop - 1] for v in pool))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["random", "ties", "infinite", "zeros"])
def test_the_boundary_of_large_tensors_is_that_of_their_concatenation(kind, dtype):
    pool = big(kind, dtype)
    parts = [pool[:7].reshape(7, 1), pool[7:50_007].reshape(2, -1), pool[50_007:]]
    ordered = pool.sort().values
    for drop in (1, 20_000, 69_999):
        last = ordered[drop - 1]
        assert boundary(parts, drop) == (float(last), drop - int((pool < last).sum()))


def test_more_ties_than_go_leave_the_later_ones():
    keep = drop_below(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), value=1.0, ties=2)
    assert keep.tolist() == [[False, False], [False, True]]


@given(st.integers(1, 4), st.integers(1, 12), st.data())
def test_random_pick_keeps_the_exact_count_in_every_lane(lanes, width, data):
    count = data.draw(st.integers(0, width))
    keep = RandomPick()(torch.zeros(lanes, width), count, torch.Generator().manual_seed(0))
    assert keep.sum(-1).tolist() == [count] * lanes


@given(st.integers(0, 99))
def test_random_pick_takes_no_unit_that_is_gone_while_others_are_left(seed):
    score = torch.tensor([5.0, -INF, 1.0, -INF, 2.0])
    keep = RandomPick()(score, 3, torch.Generator().manual_seed(seed))
    assert keep.tolist() == [True, False, True, False, True]


@given(st.integers(0, 99))
def test_random_pick_drops_no_unit_that_must_stay(seed):
    score = torch.tensor([0.0, INF, 0.0, INF, 0.0])
    keep = RandomPick()(score, 2, torch.Generator().manual_seed(seed))
    assert keep.tolist() == [False, True, False, True, False]


def test_random_pick_depends_on_its_generator_alone():
    first, again, other = (
        RandomPick()(torch.randn(200), 100, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_random_pick_reaches_every_unit():
    g = torch.Generator().manual_seed(0)
    times = sum(RandomPick()(torch.arange(10.0), 3, g).int() for _ in range(400))
    assert (times > 60).all() and (times < 180).all()  # 120 expected of each, whatever its score
