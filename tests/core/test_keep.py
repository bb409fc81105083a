"""Keep: what stays, against Python sets."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import Group, Keep, Space, SubjectError

bits = st.lists(st.booleans(), min_size=6, max_size=6)


def keep_of(row):
    return Keep({"a": torch.tensor(row[:4]).reshape(2, 2), "b": torch.tensor(row[4:])})


def units(keep):
    return {(name, i) for name in keep for i, on in enumerate(keep[name].flatten().tolist()) if on}


@given(bits)
def test_sparsity_is_the_share_of_all_units_that_goes(row):
    assert keep_of(row).sparsity == pytest.approx(1 - len(units(keep_of(row))) / 6)


@given(bits, bits)
def test_overlap_is_intersection_over_union_of_sets(first, second):
    a, b = keep_of(first), keep_of(second)
    union = units(a) | units(b)
    assert a.overlap(b) == (len(units(a) & units(b)) / len(union) if union else 1.0)


@given(bits, bits)
def test_and_is_the_intersection_of_sets(first, second):
    a, b = keep_of(first), keep_of(second)
    assert units(a & b) == units(a) & units(b)


@given(bits, bits)
def test_keeps_are_equal_where_their_sets_are(first, second):
    assert (keep_of(first) == keep_of(second)) == (first == second)


def test_keeps_of_different_groups_are_not_equal():
    assert Keep({"a": torch.ones(2, dtype=torch.bool)}) != Keep({"b": torch.ones(2, dtype=torch.bool)})


def test_a_keep_equals_nothing_else():
    assert keep_of([True] * 6) != "keep"


def test_counts_are_units_that_stay_per_group():
    assert keep_of([True, False, True, True, False, False]).counts == {"a": 3, "b": 0}


def test_collapsed_names_the_groups_of_which_nothing_stays():
    empty = {"c": torch.zeros(0, dtype=torch.bool)}
    keep = Keep({**keep_of([False] * 4 + [True, False]).masks, **empty})
    assert keep.collapsed == ["a"]


def test_a_keep_without_groups_has_no_sparsity():
    assert Keep({}).sparsity == 0.0


def test_all_keeps_every_unit_of_a_space():
    space = Space((Group("a", (2, 3)), Group("b", (4,))))
    assert Keep.all(space).counts == {"a": 6, "b": 4}


def test_keeps_of_different_spaces_do_not_measure_each_other():
    wide = Keep({"a": torch.ones(2, 2, dtype=torch.bool)})
    tall = Keep({"a": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(SubjectError, match=r"\(2, 2\) against \(3,\)"):
        wide.overlap(tall)


def test_keeps_of_different_groups_do_not_intersect():
    with pytest.raises(SubjectError, match="group 'b'"):
        _ = keep_of([True] * 6) & Keep({"a": torch.ones(2, 2, dtype=torch.bool)})


@given(st.permutations(range(6)), st.integers(0, 6), bits)
def test_a_coarsened_keep_puts_every_unit_back_where_it_came_from(order, cut, row):
    space = Space((Group("a", (2, 3)), Group("b", (2,))))
    index = torch.tensor(order)
    refined = space.refined({"a": {"x": index[:cut], "y": index[cut:]}})
    fine = Keep(
        {
            "a/x": torch.tensor([row[i] for i in order[:cut]], dtype=torch.bool),
            "a/y": torch.tensor([row[i] for i in order[cut:]], dtype=torch.bool),
            "b": torch.tensor([True, False]),
        }
    )
    coarse = fine.coarsened(refined, space)
    assert coarse["a"].flatten().tolist() == row
    assert coarse["b"].tolist() == [True, False]


def test_units_that_are_in_no_part_of_the_refined_space_are_removed():
    space = Space((Group("a", (4,)),))
    refined = space.refined({"a": {"x": torch.tensor([2, 0])}})
    coarse = Keep({"a/x": torch.tensor([True, True])}).coarsened(refined, space)
    assert coarse["a"].tolist() == [True, False, True, False]


def test_a_keep_of_the_space_itself_is_coarsened_to_itself():
    space = Space((Group("a", (2,)),))
    keep = Keep({"a": torch.tensor([True, False])})
    assert keep.coarsened(space, space) == keep
