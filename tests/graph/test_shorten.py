"""Layers taken out: the shorter model is the dense one whose blocks give their input and whose branches give zeros."""

import copy
import sys
from functools import cache

import pytest
import zoo
from hypothesis import given, settings
from hypothesis import strategies as st
from stacks import STACKS

from secateur.core import Drop, NumericsError, Plan, Skip, SubjectError
from secateur.core.depth import Skipped
from secateur.graph import layers_of, otherwise, removal, shorten, shorten_
from secateur.graph.hooked import hooked_outputs

PINNED = {"gemma2": ("model.layers.0.self_attn", "model.layers.1.self_attn")}
MANY = [name for name in STACKS if name != "Vgg"]


@cache
def looked(name):
    """A model and its layers; both stay as they are."""
    model = STACKS[name].model()
    return model, layers_of(model, STACKS[name].call())


def units_of(name):
    layers = looked(name)[1]
    return [unit for lists in (layers.blocks, layers.sublayers) for units in lists.values() for unit in units]


def shortened(name, units, **more):
    """A copy without these units, and how it was made."""
    model = copy.deepcopy(looked(name)[0])
    call = STACKS[name].call()
    return model, shorten_(model, looked(name)[1], units, (call, otherwise(call)), **more)


def distance(name, model, units, seed=1):
    """From the hooked dense model, on fresh inputs."""
    call = STACKS[name].call(seed)
    return zoo.distance(hooked_outputs(model, call, []), hooked_outputs(looked(name)[0], call, units))


def own(units):
    """Without the sublayers of blocks that go themselves."""
    paths = {unit.module for unit in units}
    return [u for u in units if not any(u.module.startswith(f"{path}.") for path in paths)]


@pytest.mark.parametrize("name", MANY)
def test_every_single_unit_can_go(name):
    for unit in units_of(name):
        if unit.module in PINNED.get(name, ()):
            continue
        model, _ = shortened(name, [unit])
        assert distance(name, model, [unit]) < 1e-10, unit.module


@pytest.mark.parametrize("name", MANY)
@settings(max_examples=5)
@given(data=st.data())
def test_any_units_can_go_together(name, data):
    units = data.draw(st.lists(st.sampled_from(units_of(name)), min_size=1, unique=True))
    try:
        model, _ = shortened(name, units)
    except SubjectError as error:  # torch's encoder reads settings of its first layer
        assert "cache" in error.what or name == "OfTorch", error
        return
    assert distance(name, model, own(units)) < 1e-10


@pytest.mark.parametrize("name", MANY)
def test_what_goes_takes_its_parameters_along_and_the_rest_still_learns(name):
    unit = units_of(name)[0]
    dense, layers = looked(name)
    gone = removal(layers.streams, [unit])
    model, done = shortened(name, [unit])
    stays = sum(p.numel() for n, p in dense.named_parameters() if not gone.holds(n))
    assert sum(p.numel() for p in model.parameters()) == stays
    assert sum(p.numel() for p in dense.parameters()) - stays == sum(p.numel() for p in done.gone)
    output = next(t for t in zoo.tensors_in(STACKS[name].call()(model)) if t.is_floating_point())
    output.sum().backward()
    assert any(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", MANY)
def test_the_plan_replays_on_a_model_without_weights(name):
    units = units_of(name)[:1]
    model, done = shortened(name, units)
    empty = copy.deepcopy(looked(name)[0]).to("meta")
    Plan.from_json(done.plan.to_json()).replay_(empty)
    assert {n: p.shape for n, p in empty.state_dict().items()} == {n: p.shape for n, p in model.state_dict().items()}


@pytest.mark.parametrize("name", MANY)
def test_what_is_not_proven_is_undone(name, monkeypatch):
    monkeypatch.setattr(shorten, "difference", lambda *_: "by design")
    model = copy.deepcopy(looked(name)[0])
    call, units = STACKS[name].call(), units_of(name)[:1]
    kinds = {path: type(module) for path, module in model.named_modules()}
    slots = {path: vars(module).get("layer_idx") for path, module in model.named_modules()}
    told = [copy.deepcopy(vars(m.config)) for m in model.modules() if hasattr(m, "config")]
    with pytest.raises(NumericsError, match="by design"):
        shorten_(model, looked(name)[1], units, (call,))
    assert kinds == {path: type(module) for path, module in model.named_modules()}
    assert slots == {path: vars(module).get("layer_idx") for path, module in model.named_modules()}
    assert told == [vars(m.config) for m in model.modules() if hasattr(m, "config")]
    assert distance(name, model, []) < 1e-10


@pytest.mark.parametrize(
    "name, drops",
    [("ResNet", True), ("llama", True), ("Vit", True), ("OfTorch", True), ("ByKeyword", False), ("Indexed", False)],
)
def test_blocks_are_deleted_from_lists_where_the_rest_runs_as_before_and_else_skipped(name, drops):
    model, done = shortened(name, [units_of(name)[0]])
    assert any(isinstance(action, Drop) for action in done.plan.actions) == drops
    assert any(isinstance(module, Skipped) for module in model.modules()) != drops


def test_a_config_and_its_lists_follow_what_was_deleted():
    model, _ = shortened("gemma2", [units_of("gemma2")[0]])
    dense = looked("gemma2")[0]
    assert model.config.num_hidden_layers == 2
    assert model.config.layer_types == dense.config.layer_types[1:]
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1]


def test_the_other_stack_of_an_encoder_and_a_decoder_keeps_its_length():
    unit = next(u for u in units_of("t5") if u.module == "model.decoder.block.1")
    model, _ = shortened("t5", [unit])
    whole = model.model
    assert [len(whole.encoder.block), len(whole.decoder.block)] == [3, 2]
    assert [whole.config.num_layers, whole.config.num_decoder_layers, whole.encoder.config.num_layers] == [3, 3, 3]


def test_skipped_attentions_leave_no_hole_among_the_slots_of_the_cache():
    unit = next(u for u in units_of("llama") if u.module == "model.layers.0.self_attn")
    model, _ = shortened("llama", [unit])
    assert [layer.self_attn.layer_idx for layer in model.model.layers[1:]] == [0, 1]


def test_where_kinds_of_layers_differ_the_first_of_each_is_not_skipped_alone():
    unit = next(u for u in units_of("gemma2") if u.module == "model.layers.1.self_attn")
    with pytest.raises(SubjectError, match="a hole in the cache"):
        shortened("gemma2", [unit])


def test_the_last_layer_with_a_cache_cannot_go():
    with pytest.raises(SubjectError, match="no layer with a cache would stay"):
        shortened("llama", [u for u in units_of("llama") if u.module.endswith("self_attn")])


# mistakes of the surgery, which the oracle must notice


def mutated(monkeypatch, change):
    """A plan whose actions are changed on the way, without a fall back to another."""
    original = shorten._attempt

    def attempt(*given, **more):
        made = original(*given, **more)
        return shorten._Attempt(made.gone, Plan(tuple(change(made.plan.actions))), made.rename)

    monkeypatch.setattr(shorten, "_attempt", attempt)
    monkeypatch.setattr(shorten, "_WAYS", shorten._WAYS[:1])
    monkeypatch.setattr(shorten._Attempt, "check_run", lambda *_: None)


def flipped(actions):
    return [Skip(a.module, a.gives, a.alone, not a.zeros) if isinstance(a, Skip) else a for a in actions]


def neighbour(actions):
    """The entry next to the one that goes."""
    return [Drop(a.container, tuple(str(int(e) + 1) for e in a.entries)) if isinstance(a, Drop) else a for a in actions]


def one_more(actions):
    return [Drop(a.container, (*a.entries, str(int(a.entries[-1]) + 1))) if isinstance(a, Drop) else a for a in actions]


def nothing(actions):
    return []


def beside(actions):
    """Another module of the block instead."""
    return [
        Skip(a.module.replace("attention", "mlp"), a.gives, a.alone, a.zeros) if isinstance(a, Skip) else a
        for a in actions
    ]


def the_norm_as_well(actions):
    return [*actions, Skip("layers.a.norm", (0,))]


@pytest.mark.parametrize(
    "name, unit, mistake",
    [
        ("ByKeyword", "layers.a", flipped),
        ("ByKeyword", "layers.a.attention", flipped),
        ("ResNet", "one.0", neighbour),
        ("llama", "model.layers.1", neighbour),
        ("Vit", "blocks.0", one_more),
        ("Vit", "blocks.0", nothing),
        ("ByKeyword", "layers.a.attention", beside),
        ("ByKeyword", "layers.a.attention", the_norm_as_well),
    ],
)
def test_a_mistake_of_the_surgery_is_noticed_and_undone(name, unit, mistake, monkeypatch):
    mutated(monkeypatch, mistake)
    units = [u for u in units_of(name) if u.module == unit]
    model = copy.deepcopy(looked(name)[0])
    call = STACKS[name].call()
    with pytest.raises((NumericsError, SubjectError)):
        shorten_(model, looked(name)[1], units, (call, otherwise(call)))
    assert distance(name, model, []) < 1e-10


def test_an_idle_module_that_is_not_idle_is_noticed(monkeypatch):
    """The liveness mistaken: whatever a removed branch reads goes along, whoever else reads it."""
    monkeypatch.setattr(
        sys.modules["secateur.graph.removal"],
        "_idle",
        lambda streams, made, span, gone, passed: bool(made) and len(made) == 1,
    )
    call = STACKS["Vit"].call()
    units = [u for u in units_of("Vit") if u.module == "blocks.0.mlp"]
    model = copy.deepcopy(looked("Vit")[0])
    done = shorten_(model, looked("Vit")[1], units, (call, otherwise(call)))
    assert len(done.plan.actions) == 1  # only the attempt that leaves idle modules alone passes
    assert distance("Vit", model, units) < 1e-10
