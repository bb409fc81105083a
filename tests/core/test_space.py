"""Sites and groups: the matrix view of a tensor, and its units."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import Group, Site, Space, SubjectError

LAYOUTS = {
    "linear": ((3, 4), (), 1),
    "conv": ((4, 3, 2, 2), (), 1),
    "transposed": ((3, 4, 2, 2), (1, 0, 2, 3), 1),
    "in-out": ((3, 5), (1, 0), 1),
    "input-last": ((4, 8, 2, 3), (0, 2, 3, 1), 1),
    "transposed input-last": ((8, 4, 2, 3), (1, 2, 3, 0), 1),
    "two rows": ((2, 3, 4), (2, 0, 1), 2),
}
layouts = pytest.mark.parametrize("shape, axes, rows", LAYOUTS.values(), ids=LAYOUTS)


def numbered(*shape):
    return torch.arange(float(torch.Size(shape).numel())).reshape(shape)


@layouts
def test_fold_undoes_unfold(shape, axes, rows):
    w = numbered(*shape)
    site = Site("w", w, axes, rows)
    assert torch.equal(site.fold(site.unfold(w)), w)


@layouts
def test_unfold_undoes_fold(shape, axes, rows):
    site = Site("w", torch.zeros(shape), axes, rows)
    matrix = numbered(*site.shape)
    assert torch.equal(site.unfold(site.fold(matrix)), matrix)


def test_a_transposed_convolution_has_its_outputs_as_rows():
    w = numbered(3, 4, 2, 2)
    site = Site("w", w, (1, 0, 2, 3), 1)
    assert torch.equal(site.unfold(w)[1], w[:, 1].flatten())


def test_input_last_lets_the_input_channels_run_fastest():
    w = numbered(4, 8, 2, 3)
    site = Site("w", w, (0, 2, 3, 1), 1)
    assert torch.equal(site.unfold(w)[2, :8], w[2, :, 0, 0])


def test_unfold_is_a_view_of_a_tensor_as_stored():
    w = numbered(3, 4, 2, 2)
    assert Site("w", w).unfold(w).data_ptr() == w.data_ptr()


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_pool_is_the_sum_over_each_tile(a, b, r, c):
    matrix = torch.randn(a * r, b * c, generator=torch.Generator().manual_seed(0))
    site = Site("w", torch.zeros(a * r, b * c), tile=(r, c))
    slow = torch.stack(
        [torch.stack([matrix[i * r : (i + 1) * r, j * c : (j + 1) * c].sum() for j in range(b)]) for i in range(a)]
    )
    torch.testing.assert_close(site.pool(matrix), slow)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_pool_and_spread_are_adjoint(a, b, r, c, seed):
    g = torch.Generator().manual_seed(seed)
    site = Site("w", torch.zeros(b * c, a * r, 1), (1, 0, 2), 1, tile=(r, c))
    x, y = torch.randn(b * c, a * r, 1, generator=g), torch.rand(a, b, generator=g) > 0.5
    pooled = (site.pool(site.unfold(x)) * y).sum()
    torch.testing.assert_close(pooled, (x * site.spread(y)).sum())


def test_a_tile_that_does_not_divide_the_matrix_names_both_sizes_and_the_tensor():
    with pytest.raises(SubjectError, match=r"(?s)2x3 do not divide a matrix of 4x8.*'fc\.weight'"):
        Site("fc.weight", torch.zeros(4, 8), tile=(2, 3))


def test_a_group_pools_a_formula_of_the_weight_in_float32():
    w = torch.ones(2, 4, dtype=torch.bfloat16)
    group = Group("w", (1, 2), site=Site("w", w, tile=(2, 2)))
    pooled = group.pool(lambda weight: weight / 3)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, torch.full((1, 2), 4 / 3))


def test_a_group_hands_gradients_to_the_formula_in_the_layout_of_the_weight():
    w, gradient = numbered(2, 3, 2), numbered(2, 3, 2) * 10
    group = Group("w", (3, 4), site=Site("w", w, (1, 0, 2), 1))
    weight, other = (group.pool(f, gradient) for f in (lambda w, g: w, lambda w, g: g))
    assert torch.equal(weight * 10, other)


def test_float64_weights_keep_their_precision():
    group = Group("w", (1, 1), site=Site("w", torch.full((1, 1), 1 / 3, dtype=torch.float64)))
    assert group.pool(lambda w: w).item() == 1 / 3


def test_units_that_are_not_weights_have_no_weight():
    with pytest.raises(SubjectError, match="group 'samples'"):
        _ = Group("samples", (5,)).weight


def test_a_refined_part_carries_the_labels_and_costs_of_its_units():
    space = Space((Group("s", (4,), costs={"samples": 1.0}, labels=torch.tensor([7, 8, 9, 7])),))
    part = space.refined({"s": {"seven": torch.tensor([3, 0])}})["s/seven"]
    assert (part.labels.tolist(), dict(part.costs), part.size) == ([7, 7], {"samples": 1.0}, 2)


def test_replaced_changes_the_named_groups_only():
    space = Space((Group("a", (4,)), Group("b", (4,))), {"c": "why"}).replaced(floor={"b": 2})
    assert (space["a"].floor, space["b"].floor, space.skipped) == (0, 2, {"c": "why"})


def test_a_space_knows_its_groups_by_name_and_its_size():
    space = Space((Group("a", (2, 3)), Group("b", (4,))))
    assert ("a" in space, "c" in space, len(space), space.size) == (True, False, 2, 10)
