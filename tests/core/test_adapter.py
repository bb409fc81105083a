"""Low-rank adapters: formulas against loops, merging to the bit, layers that see the adapted weight alone."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from secateur.core import Adapt, Adapter, CheckpointError, Plan, attach_mask_, masks_of, merge_kept_
from secateur.core.adapter import adapted, factors, merged

VARIANTS = ("lora", "lora_prune", "mask_lora", "scale_lora")
EXACT = ("mask_lora", "scale_lora")
sizes, seeds = st.integers(1, 6), st.integers(0, 2**16)
variants, exact = st.sampled_from(VARIANTS), st.sampled_from(EXACT)


class Conv1D(nn.Module):
    """As in transformers: a linear layer that stores its weight as [in, out]."""

    def __init__(self, nf, nx):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)


def draw(out, ins, rank, seed):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(out, ins, generator=g) < 0.5
    weight = torch.randn(out, ins, generator=g) * mask
    return weight, torch.randn(rank, ins, generator=g), torch.randn(out, rank, generator=g), mask


@given(sizes, sizes, sizes, seeds, variants)
def test_it_equals_the_formulas_written_as_loops(out, ins, rank, seed, variant):
    w, a, b, mask = draw(out, ins, rank, seed)
    slow = torch.zeros(out, ins)
    for i in range(out):
        for j in range(ins):
            product = sum(float(b[i, k]) * float(a[k, j]) for k in range(rank))
            if variant == "scale_lora":
                slow[i, j] = w[i, j] * product
            elif variant == "mask_lora":
                slow[i, j] = w[i, j] + (0.7 * product if mask[i, j] else 0)
            else:
                slow[i, j] = w[i, j] + 0.7 * product
    torch.testing.assert_close(adapted(w, a, b, mask, variant, 0.7), slow, rtol=1e-4, atol=1e-5)


@given(sizes, sizes, sizes, seeds, variants)
def test_every_variant_begins_at_the_weight(out, ins, rank, seed, variant):
    w, *_, mask = draw(out, ins, rank, seed)
    a, b = factors(w, rank, variant, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(adapted(w, a, b, mask, variant, 2.0), w)
    assert a.shape == (rank, ins) and b.shape == (out, rank)


@given(sizes, sizes, sizes, seeds, st.sampled_from(VARIANTS[1:]))
def test_what_the_mask_removed_is_zero_after_merging_whatever_the_factors_hold(out, ins, rank, seed, variant):
    w, a, b, mask = draw(out, ins, rank, seed)
    a[0, 0], b[-1, 0] = float("inf"), float("nan")
    assert (merged(w, a, b, mask, variant, 2.0)[~mask] == 0).all()


@given(sizes, sizes, sizes, seeds, exact)
def test_merging_gives_the_bits_that_training_used(out, ins, rank, seed, variant):
    w, a, b, mask = draw(out, ins, rank, seed)
    assert torch.equal(adapted(w, a, b, mask, variant, 2.0), merged(w, a, b, mask, variant, 2.0))


@given(sizes, sizes, seeds)
def test_lora_prune_merges_what_it_trained_under_the_mask(out, ins, seed):
    w, a, b, mask = draw(out, ins, 2, seed)
    trained = adapted(w, a, b, mask, "lora_prune", 2.0)
    assert torch.equal(merged(w, a, b, mask, "lora_prune", 2.0), torch.where(mask, trained, 0))


def test_plain_lora_leaves_no_sparsity():
    w, a, b, mask = draw(5, 6, 2, 0)
    assert (merged(w, a, b, mask, "lora", 2.0)[~mask] != 0).all()


def test_a_kept_weight_that_is_zero_may_move():
    _, a, b, _ = draw(3, 3, 2, 1)
    kept = torch.ones(3, 3, dtype=torch.bool)
    assert (merged(torch.zeros(3, 3), a, b, kept, "mask_lora", 2.0) != 0).all()


def layer_of(kind, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    layer = (nn.Linear(5, 4) if kind == "linear" else Conv1D(4, 5)).to(dtype)
    attach_mask_(layer, "weight", torch.rand_like(layer.weight.float()) < 0.5)
    return layer


def adapter_on(layer, variant, rank=2, move=True):
    turned = type(layer).__name__ == "Conv1D"
    a, b = factors(layer.weight.T if turned else layer.weight, rank, variant, torch.Generator().manual_seed(0))
    if move:
        with torch.no_grad():
            b += torch.randn(b.shape, generator=torch.Generator().manual_seed(1)) / 4
    return Adapter(layer, a, b, masks_of(layer)["weight"], variant, 2.0, turned)


kinds = pytest.mark.parametrize("kind", ["linear", "conv1d"])


@kinds
@pytest.mark.parametrize("variant", EXACT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_layer_gives_the_same_bits_before_and_after_merging(kind, variant, dtype):
    layer, x = layer_of(kind, dtype), torch.randn(3, 5).to(dtype)
    plain = layer(x)
    adapter = adapter_on(layer, variant)
    before, mask = layer(x), masks_of(layer)["weight"]
    adapter.merge_()
    assert torch.equal(layer(x), before) and not torch.equal(before, plain)
    assert (layer.weight[~mask] == 0).all() and layer.weight.dtype == dtype


@kinds
def test_names_order_and_kind_of_the_layers_tensors_stay(kind):
    layer = layer_of(kind)
    names, weight = list(layer.state_dict()), layer.weight
    adapter_on(layer, "mask_lora")
    layer(torch.randn(2, 5))
    assert list(layer.state_dict()) == names and layer.weight is weight
    assert [n for n, _ in layer.named_parameters()] == ["weight", "bias"]


def test_a_pass_that_fails_leaves_the_layer_whole():
    layer = layer_of("linear")
    weight = layer.weight
    adapter_on(layer, "mask_lora")
    with pytest.raises(RuntimeError):
        layer(torch.randn(2, 7))
    assert layer.weight is weight


def test_only_the_factors_get_gradients():
    layer = layer_of("linear").requires_grad_(False)
    adapter = adapter_on(layer, "mask_lora")
    layer(torch.randn(3, 5)).square().sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    assert adapter.a.grad is not None and adapter.b.grad is not None


def test_a_copy_has_factors_of_its_own():
    layer, x = layer_of("linear"), torch.randn(3, 5)
    adapter = adapter_on(layer, "mask_lora")
    twin, before = copy.deepcopy(layer), layer(x)
    with torch.no_grad():
        adapter.b.zero_()
    assert torch.equal(twin(x), before) and not torch.equal(layer(x), before)


def test_recomputed_activations_give_the_same_gradients():
    layer, x = layer_of("linear"), torch.randn(3, 5)
    adapter = adapter_on(layer, "mask_lora")
    layer(x).square().sum().backward()
    straight, adapter.b.grad = adapter.b.grad, None
    checkpoint(layer, x, use_reentrant=False).square().sum().backward()
    assert torch.equal(adapter.b.grad, straight)
    assert isinstance(layer.weight, nn.Parameter)


def test_the_columns_of_scale_lora_stay_equal_so_its_rank_is_one():
    layer = layer_of("linear")
    adapter = adapter_on(layer, "scale_lora", rank=3, move=False)
    optimizer = torch.optim.Adam([adapter.a, adapter.b], lr=0.1)
    for _ in range(5):
        layer(torch.randn(8, 5)).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(adapter.a, adapter.a[:1].expand(3, -1))
    torch.testing.assert_close(adapter.b, adapter.b[:, :1].expand(-1, 3))
    assert not torch.allclose(adapter.b, torch.full_like(adapter.b, 3**-0.5))


@kinds
def test_a_plan_puts_kept_factors_on_a_fresh_layer(kind):
    layer, x = nn.Sequential(layer_of(kind)), torch.randn(3, 5)
    adapter_on(layer[0], "lora").keep_()
    fresh = nn.Sequential(layer_of(kind, seed=1))
    plan = Plan.from_json(Plan((Adapt("0.weight", 2, 2.0),)).to_json())
    plan.replay_(fresh)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), layer(x))
    assert {"0.weight_lora_a", "0.weight_lora_b"} <= set(fresh.state_dict())


def test_kept_factors_are_merged_only_when_told_to():
    model, x = nn.Sequential(layer_of("linear"), nn.ReLU()), torch.randn(3, 5)
    names = list(model.state_dict())
    adapter_on(model[0], "lora").keep_()
    before, mask = model(x), masks_of(model)["0.weight"]
    assert (model[0].weight[~mask] == 0).all()
    assert merge_kept_(model) == ["0.weight"] and merge_kept_(model) == []
    assert torch.equal(model(x), before) and (model[0].weight[~mask] != 0).all()
    assert list(model.state_dict()) == names


@pytest.mark.parametrize(
    "entry",
    [
        {"do": "adapt", "tensor": "0.weight", "rank": 0, "scaling": 1.0},
        {"do": "adapt", "tensor": "0.weight", "rank": True, "scaling": 1.0},
        {"do": "adapt", "tensor": "0.weight", "rank": 1 << 70, "scaling": 1.0},
        {"do": "adapt", "tensor": "0.weight", "rank": 2, "scaling": float("nan")},
        {"do": "adapt", "tensor": 3, "rank": 2, "scaling": 1.0},
        {"do": "adapt", "tensor": "0.weight", "rank": 2, "scaling": 1.0, "more": 1},
    ],
    ids=str,
)
def test_a_damaged_action_is_refused(entry):
    with pytest.raises(CheckpointError, match="no action"):
        Plan.from_json([entry])


@pytest.mark.parametrize("tensor", ["0.bias", "1.weight", "7.weight"])
def test_an_action_on_something_else_is_refused(tensor):
    with pytest.raises(CheckpointError, match="no such tensor"):
        Plan((Adapt(tensor, 2, 1.0),)).replay_(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
