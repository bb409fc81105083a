"""Units of interchangeable parts: taking them apart, putting them together in another order, and keeps of both."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import Group, Keep, Member, Site, Space, SubjectError
from secateur.core.strands import (
    apart,
    as_units,
    by_score,
    counts,
    in_order,
    in_order_of,
    of_strands,
    rearranged,
    reordered,
    turning,
)


def group_of(lanes, units, tensor=None):
    """Units of one strand in each lane: lane k holds positions k * units to (k + 1) * units."""
    tensor = torch.arange(lanes * units * 2.0).reshape(lanes * units, 2) if tensor is None else tensor
    slices = Group("weight", (len(tensor), 1), site=Site("weight", tensor, (0, 1), 1, (1, tensor.shape[1])))
    index = torch.arange(lanes * units).reshape(lanes, units).T
    member = Member(slices, 0, index.contiguous(), frozenset({"producer"}))
    return Group("g", (units,), members=(member,), strands=lanes, costs={"params": 2.0 * lanes})


sizes = st.tuples(st.integers(1, 5), st.integers(1, 6))


@st.composite
def orders(draw):
    lanes, units = draw(sizes)
    return [draw(st.permutations(range(units))) for _ in range(lanes)]


def made_of(orders):
    """A group, and an order of its strands; outside of strategies, in which checks of types may not draw."""
    return group_of(len(orders), len(orders[0])), torch.tensor(orders)


@given(orders())
def test_a_unit_in_an_order_holds_the_strands_that_it_names(made):
    group, order = made_of(made)
    index = in_order(group, order).members[0].index
    for unit in range(group.size):
        assert index[unit].tolist() == [k * group.size + int(order[k, unit]) for k in range(group.strands)]


@given(orders())
def test_strands_apart_are_units_lane_after_lane(made):
    group, _ = made_of(made)
    parts = apart(group)
    assert (parts.size, parts.lanes, parts.strands) == (group.strands * group.size, group.strands, 1)
    assert parts.members[0].index.flatten().tolist() == list(range(parts.size))
    assert parts.costs["params"] * group.strands == group.costs["params"]


@given(orders())
def test_a_tensor_in_an_order_has_the_named_strands_at_the_places_of_units(made):
    group, order = made_of(made)
    member = group.members[0]
    found = reordered(member.tensor, member, order)
    for k in range(group.strands):
        for unit in range(group.size):
            wanted = member.tensor[k * group.size + order[k, unit]]
            assert torch.equal(found[k * group.size + unit], wanted)


@given(orders())
def test_lanes_that_another_dimension_tells_apart_are_put_in_order_run_by_run(made):
    _, order = made_of(made)
    lanes, units = order.shape
    tensor = torch.rand(2 * lanes, units, 3)  # two rows for each lane
    slices = Group("w", (units, lanes), site=Site("w", tensor, (1, 0, 2), 1, (1, 6)))
    index = torch.arange(units)[:, None] * lanes + torch.arange(lanes)
    found = reordered(tensor, Member(slices, 1, index, frozenset({"consumer"})), order)
    for row in range(2 * lanes):
        assert torch.equal(found[row], tensor[row][order[row // 2]])


@given(orders(), st.data())
def test_a_keep_of_strands_is_one_of_units_in_the_order_that_it_gives(made, data):
    group, order = made_of(made)
    mask = torch.tensor(data.draw(st.lists(st.booleans(), min_size=group.size, max_size=group.size)))
    stays = of_strands(mask, order)
    assert torch.equal(stays.gather(1, order), mask.expand(order.shape))
    units, again = as_units("g", group.size, stays, group.strands)
    assert int(units.sum()) == int(mask.sum())
    if again is not None:
        assert torch.equal(of_strands(units, again), stays)
        assert all((row[: units.sum()].diff() > 0).all() for row in again)  # those that stay, in their places
    assert counts(Space((group,)), Keep({"g": stays})) == {"g": int(mask.sum())}


def test_lanes_that_keep_unlike_numbers_are_refused():
    with pytest.raises(SubjectError, match="its 2 lanes keep from 1 to 2 of their 3 units"):
        as_units("g", 3, torch.tensor([[True, True, False], [True, False, False]]), 2)


def test_a_keep_of_other_units_is_refused_by_name():
    with pytest.raises(SubjectError, match="the keep has 5 units, and there are 3"):
        as_units("g", 3, torch.ones(5, dtype=torch.bool), 2)


def test_a_keep_of_more_lanes_than_there_are_is_refused():
    with pytest.raises(SubjectError, match="the keep has 9 units, and there are 3"):
        as_units("g", 3, torch.ones(3, 3, dtype=torch.bool), 2)


def test_equal_scores_leave_strands_in_their_places():
    assert by_score(torch.ones(2, 3)).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert by_score(torch.tensor([[3.0, 1.0, 2.0]])).tolist() == [[1, 2, 0]]


def test_a_space_in_the_order_of_a_keep_leaves_alone_what_it_does_not_know():
    group = group_of(2, 3)
    assert in_order_of(Space((group,)), Keep({})).groups[0] is group
    keep = Keep({"g": torch.tensor([[False, True, True], [True, True, False]])})
    index = in_order_of(Space((group,)), keep)["g"].members[0].index
    assert index.tolist() == [[1, 3], [2, 4], [0, 5]]


def test_what_fails_meanwhile_leaves_everything_as_it_was():
    group = group_of(2, 3)
    before = group.members[0].tensor.clone()
    with pytest.raises(RuntimeError, match="stop"), rearranged([(group, torch.tensor([[1, 2, 0], [2, 1, 0]]))]):
        assert not torch.equal(group.members[0].tensor, before)
        raise RuntimeError("stop")
    assert torch.equal(group.members[0].tensor, before)


def test_moments_are_turned_as_their_tensor_is():
    group, order = group_of(2, 3), torch.tensor([[1, 2, 0], [2, 1, 0]])
    tensor = group.members[0].tensor
    turn = turning(tensor, [(group, order)])
    assert torch.equal(turn(tensor + 1), reordered(tensor + 1, group.members[0], order))
    assert turning(torch.zeros(2), [(group, order)]) is None
