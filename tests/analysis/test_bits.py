"""Overlap counted in bytes equals overlap counted in booleans."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.analysis import overlaps
from secateur.analysis.bits import pack, packed_iou
from secateur.core import Keep

groups = st.dictionaries(st.sampled_from("abc"), st.integers(1, 70), min_size=1)


def draw(sizes, density, seed):
    g = torch.Generator().manual_seed(seed)
    return {name: torch.rand(size, generator=g) < density for name, size in sizes.items()}


def on_disk(masks):
    return {name: np.packbits(m.numpy(), bitorder="little") for name, m in masks.items()}


@given(groups, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**16))
def test_equals_the_overlap_of_unpacked_masks(sizes, p, q, seed):
    first, second = draw(sizes, p, seed), draw(sizes, q, seed + 1)
    found = packed_iou(pack(on_disk(first), sizes), pack(on_disk(second), sizes))
    whole = [torch.cat([masks[name] for name in sizes]) for masks in (first, second)]
    pooled = overlaps(Keep({"all": whole[0]}), Keep({"all": whole[1]}))["all"]
    assert found.iou == pytest.approx(pooled.iou)
    if len(sizes) == 1:
        assert found.chance == pytest.approx(pooled.chance)


@given(groups, st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**16))
def test_chance_adds_up_over_groups(sizes, p, q, seed):
    first, second = draw(sizes, p, seed), draw(sizes, q, seed + 1)
    both = sum(int(first[n].sum()) * int(second[n].sum()) / size for n, size in sizes.items())
    either = sum(int(first[n].sum()) + int(second[n].sum()) for n in sizes) - both
    found = packed_iou(pack(on_disk(first), sizes), pack(on_disk(second), sizes))
    assert found.chance == pytest.approx(both / either if either else 1.0)


@given(groups, st.integers(0, 2**16))
def test_a_group_without_a_mask_is_dense(sizes, seed):
    masks = draw(sizes, 0.5, seed)
    name = next(iter(sizes))
    dense = {**masks, name: torch.ones(sizes[name], dtype=torch.bool)}
    without = {n: m for n, m in masks.items() if n != name}
    assert packed_iou(pack(on_disk(without), sizes), pack(on_disk(dense), sizes)).iou == 1.0


def test_what_lies_behind_the_last_weight_does_not_count():
    clean, dirty = pack({"a": np.array([0b101], np.uint8)}, {"a": 3}), pack({"a": np.array([0xFD], np.uint8)}, {"a": 3})
    assert packed_iou(clean, dirty).iou == 1.0 and dirty.kept.tolist() == [2]


@pytest.mark.parametrize("mask", [np.zeros(2, np.uint8), np.zeros(1, np.int32), np.zeros((1, 1), np.uint8)])
def test_a_mask_of_another_size_or_type_is_refused(mask):
    with pytest.raises(ValueError, match="the mask of 'a'"):
        pack({"a": mask}, {"a": 8})
