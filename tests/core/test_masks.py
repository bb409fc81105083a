"""Masks hold through every kind of training loop: what is pruned is exactly zero, and so are its moments."""

import copy
import gc

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from secateur.core import (
    MaskKeeper,
    SubjectError,
    adopt_torch_masks_,
    apply_masks_,
    attach_mask_,
    attach_soft_mask_,
    masks_of,
    owner_of,
    remove_masks_,
    remove_soft_mask_,
)

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, foreach=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9),
}
MASKED = ("0.weight", "3.weight")


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def half(tensor, seed=1):
    return torch.rand(tensor.shape, generator=torch.Generator().manual_seed(seed)) > 0.5


def masked(model=None):
    model = model or small()
    for name in MASKED:
        attach_mask_(model, name, half(model.get_parameter(name)))
    return model


def train_(model, optimizer, steps=1, after=lambda: None):
    g = torch.Generator().manual_seed(5)
    for _ in range(steps):
        x, y = torch.randn(8, 1, 4, 4, generator=g), torch.randint(3, (8,), generator=g)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
        after()


def pruned_entries(model, optimizer=None):
    """All weights, and all moments, that a mask covers."""
    found = []
    for name, mask in masks_of(model).items():
        parameter = model.get_parameter(name)
        state = optimizer.state[parameter].values() if optimizer else ()
        moments = [t for t in state if torch.is_tensor(t) and t.shape == parameter.shape]
        assert optimizer is None or moments, "an optimizer without moments proves nothing"
        found += [t.detach()[~mask] for t in (parameter, *moments)]
    return torch.cat(found)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("mask_gradients", [True, False], ids=["masked gradients", "dense gradients"])
def test_pruned_weights_and_their_moments_are_zero_after_every_step(make, mask_gradients):
    model = masked()
    optimizer = make(model.parameters())
    zero = []
    with MaskKeeper(model, mask_gradients=mask_gradients):
        train_(model, optimizer, 10, after=lambda: zero.append(not pruned_entries(model, optimizer).any()))
    assert zero == [True] * 10


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_survivors_go_on_learning(make):
    model = masked()
    before = {n: model.get_parameter(n).detach().clone() for n in MASKED}
    with MaskKeeper(model):
        train_(model, make(model.parameters()))
    for name, mask in masks_of(model).items():
        assert (model.get_parameter(name) != before[name])[mask].all()


def test_a_keeper_leaves_other_models_alone():
    model, other = masked(), small()
    optimizer = OPTIMIZERS["sgd"](other.parameters())
    with MaskKeeper(model):
        train_(other, optimizer)
    assert all(p.all() for p in other.parameters())


def test_a_closed_keeper_keeps_no_longer():
    model = masked()
    keeper = MaskKeeper(model)
    keeper.close()
    train_(model, OPTIMIZERS["sgd"](model.parameters()))
    assert pruned_entries(model).all()


def test_a_keeper_that_is_forgotten_does_not_hold_the_model():
    model = masked()
    keeper = MaskKeeper(model)
    train_(model, OPTIMIZERS["sgd"](model.parameters()))
    del model
    gc.collect()
    assert keeper._model() is None


def test_masks_survive_deepcopy():
    model = masked()
    twin = copy.deepcopy(model)
    optimizer = OPTIMIZERS["sgd"](twin.parameters())
    with MaskKeeper(twin):
        train_(twin, optimizer, 3)
    assert masks_of(twin).keys() == masks_of(model).keys()
    assert not pruned_entries(twin, optimizer).any()


def test_a_deepcopy_has_masks_of_its_own():
    model = masked()
    twin = copy.deepcopy(model)
    attach_mask_(twin, "3.weight", torch.ones(3, 16, dtype=torch.bool))
    assert not masks_of(model)["3.weight"].all()


def test_masks_go_through_the_state_dict_into_a_model_with_masks():
    model, other = masked(), small()
    for name in MASKED:
        attach_mask_(other, name, half(other.get_parameter(name), seed=2))
    with MaskKeeper(other):
        other.load_state_dict(model.state_dict())
        optimizer = OPTIMIZERS["adam"](other.parameters())
        train_(other, optimizer, 3)
    assert all(torch.equal(masks_of(other)[n], m) for n, m in masks_of(model).items())
    assert not pruned_entries(other, optimizer).any()


def test_masks_hold_through_gradient_accumulation():
    model = masked()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with MaskKeeper(model):
        for _ in range(3):
            for _ in range(4):
                (model(torch.randn(2, 1, 4, 4)).square().mean() / 4).backward()
            assert model[3].weight.grad[masks_of(model)["3.weight"]].all()
            optimizer.step()
            optimizer.zero_grad()
            assert not pruned_entries(model, optimizer).any()


def test_masks_hold_under_autocast_and_a_gradient_scaler():
    model = masked()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with MaskKeeper(model):
        for _ in range(3):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(torch.randn(8, 1, 4, 4)).float().square().mean()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            assert not pruned_entries(model, optimizer).any()


def test_masks_hold_through_torch_compile():
    model = masked()
    compiled = torch.compile(model, backend="eager")
    optimizer = OPTIMIZERS["sgd"](compiled.parameters())
    with MaskKeeper(model):
        train_(compiled, optimizer, 3)
    assert not pruned_entries(model, optimizer).any()


def test_a_keeper_of_the_compiled_model_keeps_the_plain_one():
    model = masked()
    compiled = torch.compile(model, backend="eager")
    with MaskKeeper(compiled):
        train_(model, OPTIMIZERS["sgd"](model.parameters()), 2)
    assert not pruned_entries(model).any()


def test_a_mask_changed_under_torch_compile_changes_what_the_compiled_model_gives():
    model = masked()
    compiled = torch.compile(model, backend="eager")
    x = torch.randn(2, 1, 4, 4)
    compiled(x)
    attach_mask_(model, "3.weight", torch.zeros(3, 16, dtype=torch.bool))
    torch.testing.assert_close(compiled(x), model[3].bias.expand(2, 3))


def test_masks_hold_when_the_optimizer_is_made_anew():
    model = masked()
    with MaskKeeper(model):
        train_(model, OPTIMIZERS["adam"](model.parameters()), 2)
        optimizer = OPTIMIZERS["sgd"](model.parameters())
        train_(model, optimizer, 2)
    assert not pruned_entries(model, optimizer).any()


def test_masks_hold_when_two_optimizers_share_the_model():
    model = masked()
    first, second = (OPTIMIZERS["sgd"](model[i].parameters()) for i in (0, 3))
    with MaskKeeper(model):
        train_(model, first, after=second.step)
    assert not pruned_entries(model).any()


def test_moments_loaded_from_a_dense_run_are_zeroed_where_weights_are_pruned():
    dense = small()
    source = OPTIMIZERS["adam"](dense.parameters())
    train_(dense, source, 2)
    model = masked(dense)
    optimizer = OPTIMIZERS["adam"](model.parameters())
    optimizer.load_state_dict(source.state_dict())
    apply_masks_(model, optimizer)
    assert not pruned_entries(model, optimizer).any()


def test_gradients_of_pruned_weights_are_zero_where_that_is_asked():
    model = masked()
    with MaskKeeper(model, mask_gradients=True):
        model(torch.randn(8, 1, 4, 4)).square().sum().backward()
        for name, mask in masks_of(model).items():
            assert torch.equal(model.get_parameter(name).grad != 0, mask)


def test_gradients_of_pruned_weights_stay_dense_for_regrowing():
    model = masked()
    with MaskKeeper(model, mask_gradients=False):
        model(torch.randn(8, 1, 4, 4)).square().sum().backward()
    assert all(model.get_parameter(name).grad.all() for name in MASKED)


def test_gradient_clipping_counts_survivors_only():
    model = masked()
    with MaskKeeper(model):
        model(torch.randn(8, 1, 4, 4)).square().sum().backward()
        norm = nn.utils.get_total_norm([model.get_parameter(n).grad for n in MASKED])
    alive = [model.get_parameter(n).grad[m] for n, m in masks_of(model).items()]
    torch.testing.assert_close(norm, torch.cat(alive).norm())


def test_a_mask_attached_later_is_kept_after_refresh():
    model = small()
    with MaskKeeper(model) as keeper:
        masked(model)
        keeper.refresh()
        train_(model, OPTIMIZERS["sgd"](model.parameters()), 2)
    assert not pruned_entries(model).any()


def test_a_refreshed_keeper_masks_each_gradient_by_the_present_mask():
    model = masked()
    with MaskKeeper(model) as keeper:
        attach_mask_(model, "3.weight", torch.ones(3, 16, dtype=torch.bool))
        keeper.refresh()
        model(torch.randn(8, 1, 4, 4)).square().sum().backward()
    assert model[3].weight.grad.all()


def test_a_mask_that_changes_in_place_is_kept_without_another_look():
    model = masked()
    with MaskKeeper(model):
        attach_mask_(model, "3.weight", torch.eye(3, 16) > 0)
        train_(model, OPTIMIZERS["sgd"](model.parameters()), 2)
    assert torch.equal(model[3].weight != 0, torch.eye(3, 16) > 0)


def test_a_tied_weight_is_kept_whichever_name_it_was_masked_under():
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False))
    model[1].weight = model[0].weight
    attach_mask_(model, "1.weight", half(model[1].weight))
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with MaskKeeper(model):
        model(torch.arange(6)).square().sum().backward()
        optimizer.step()
    assert not model[0].weight[~masks_of(model)["1.weight"]].any()


def test_what_a_new_mask_lets_grow_again_starts_at_zero():
    model = masked()
    old = masks_of(model)["3.weight"].clone()
    attach_mask_(model, "3.weight", ~old)
    assert not model[3].weight.any()


def test_a_weight_that_grew_again_learns():
    model = masked()
    with MaskKeeper(model) as keeper:
        attach_mask_(model, "3.weight", torch.ones(3, 16, dtype=torch.bool))
        keeper.refresh()
        train_(model, OPTIMIZERS["sgd"](model.parameters()), 2)
    assert model[3].weight.all()


def test_a_mask_of_another_shape_names_both_shapes():
    with pytest.raises(SubjectError, match=r"(?s)\(16, 3\).*\(3, 16\).*'3\.weight'"):
        attach_mask_(small(), "3.weight", torch.ones(16, 3, dtype=torch.bool))


def test_a_refused_mask_changes_nothing():
    model = small()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(SubjectError):
        attach_mask_(model, "3.weight", torch.zeros(1, 16, dtype=torch.bool))
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)


def test_the_caller_keeps_the_mask_that_was_attached():
    model = small()
    mask = torch.ones(3, 16, dtype=torch.bool)
    attach_mask_(model, "3.weight", mask)
    mask.zero_()
    assert masks_of(model)["3.weight"].all()


def test_removed_masks_leave_a_state_dict_that_the_plain_class_loads():
    model = masked()
    masks = {n: m.clone() for n, m in masks_of(model).items()}
    remove_masks_(model)
    plain = small()
    plain.load_state_dict(model.state_dict(), strict=True)
    assert all(not plain.get_parameter(n)[~m].any() for n, m in masks.items())
    assert masks_of(model) == {}


def test_removing_masks_folds_them_in_even_where_weights_came_back():
    model = masked()
    mask = masks_of(model)["3.weight"].clone()
    with torch.no_grad():
        model[3].weight.fill_(1.0)
    remove_masks_(model)
    assert torch.equal(model[3].weight != 0, mask)


def test_masks_of_a_recurrent_layer_hold():
    model = nn.LSTM(3, 4)
    attach_mask_(model, "weight_hh_l0", half(model.weight_hh_l0))
    optimizer = OPTIMIZERS["adam"](model.parameters())
    with MaskKeeper(model):
        for _ in range(2):
            model(torch.randn(5, 2, 3))[0].square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert not pruned_entries(model, optimizer).any()


def test_a_parameter_of_the_model_itself_can_be_masked():
    model = nn.Linear(4, 3)
    attach_mask_(model, "weight", half(model.weight))
    assert list(masks_of(model)) == ["weight"]


def test_masks_are_attached_on_the_meta_device():
    model = nn.Linear(4, 3, device="meta")
    attach_mask_(model, "weight", torch.ones(3, 4, dtype=torch.bool))
    assert masks_of(model)["weight"].is_meta


def test_a_name_that_no_tensor_has_is_an_attribute_error():
    with pytest.raises(AttributeError):
        owner_of(small(), "0.weights")


def torch_pruned(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.random_unstructured(model[2], "weight", 0.25)
    prune.l1_unstructured(model[2], "weight", 0.25)  # a second one, in a container
    prune.random_unstructured(model[2], "bias", 1)
    return model


def test_adopting_torch_masks_leaves_the_function_as_it_was():
    model, x = torch_pruned(), torch.randn(2, 1, 4, 4)
    before = model(x)
    adopt_torch_masks_(model)
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)


def test_adopting_torch_masks_finds_each_of_them():
    model = torch_pruned()
    theirs = {"0.weight": model[0].weight_mask, "2.weight": model[2].weight_mask, "2.bias": model[2].bias_mask}
    ours = adopt_torch_masks_(model)
    assert ours.keys() == masks_of(model).keys() == theirs.keys()
    assert all(torch.equal(ours[n], m.bool()) and torch.equal(masks_of(model)[n], ours[n]) for n, m in theirs.items())


def test_adopting_torch_masks_leaves_no_hook_and_plain_names():
    model = torch_pruned()
    adopt_torch_masks_(model)
    assert not prune.is_pruned(model)
    assert {n for n, _ in model.named_parameters()} == {"0.bias", "0.weight", "2.weight", "2.bias"}


def test_a_model_without_torch_masks_adopts_nothing():
    assert adopt_torch_masks_(small()) == {}


def test_a_soft_mask_multiplies_the_weight():
    layer = nn.Linear(4, 3, bias=False)
    plain, mask = layer.weight.detach().clone(), torch.rand(3, 4)
    attach_soft_mask_(layer, "weight", mask)
    torch.testing.assert_close(layer.weight, plain * mask)


def test_a_soft_mask_has_a_gradient_of_its_own():
    layer = nn.Linear(4, 3, bias=False)
    soft, x = attach_soft_mask_(layer, "weight", torch.ones(3, 4)), torch.randn(2, 4)
    layer(x).sum().backward()
    plain = layer.parametrizations.weight.original
    torch.testing.assert_close(soft.mask.grad, plain.detach() * x.sum(0))


def test_a_folded_soft_mask_leaves_the_plain_layer_with_the_product():
    layer = nn.Linear(4, 3)
    expected = layer.weight.detach() * 0.5
    attach_soft_mask_(layer, "weight", torch.full((3, 4), 0.5))
    remove_soft_mask_(layer, "weight")
    assert set(layer.state_dict()) == {"weight", "bias"}
    torch.testing.assert_close(layer.weight.detach(), expected)


def test_a_soft_mask_keeps_the_dtype_of_a_bfloat16_weight():
    layer = nn.Linear(4, 3, dtype=torch.bfloat16)
    attach_soft_mask_(layer, "weight", torch.rand(3, 4))
    assert layer.weight.dtype == torch.bfloat16
