"""Every structure that labels must follow: its families, cuts of it at random, what becomes of the smaller model."""

import copy
import json
import os
from collections import Counter

import pytest
import torch
import zoo
from zoo import ZOO, coupled, cut, drawn, offered, outputs

from secateur.core import Plan
from secateur.core.costs import macs_by_module
from secateur.graph.coupling import Tag

BY_HAND = "an attention written with matmul does not say that its contracted dimension holds features of heads"
LATER = {
    "attention": BY_HAND,
    "fused_chunks": BY_HAND,
    "relative_bias": BY_HAND,
}
NO_PROJECTION_LEFT = {"lstm_projected"}
"""torch takes an LSTM with as many projected as hidden units for one without a projection."""
CUTS = int(os.environ.get("SECATEUR_CUTS", "120"))


def later(names):
    """These models, with those that are known to lack something marked."""
    return [pytest.param(n, marks=pytest.mark.xfail(reason=LATER[n], strict=True)) if n in LATER else n for n in names]


def cut_at_random(name, seed=0):
    """A model that lost something of every family."""
    g = torch.Generator().manual_seed(seed)
    coupling = coupled(name)[1]
    while len(keep := drawn(coupling, g)) < min(len(coupling.families), 2):
        pass
    return cut(name, keep, seed)


@pytest.fixture(scope="module", params=ZOO)
def name(request):
    """One model after the other, so that each is coupled and cut once."""
    return request.param


@pytest.fixture(scope="module")
def made(name):
    """A cut of it; nobody may change it."""
    return cut_at_random(name)


def member(family, name, dim=0):
    """The positions of the units of a family in a tensor."""
    return next(m.index for m in family.members if (m.name, m.dim) == (name, dim))


@pytest.mark.parametrize("name", later(ZOO))
def test_a_model_offers_what_its_structure_has(name):
    assert not Counter(ZOO[name].offers) - offered(coupled(name)[1])


@pytest.mark.parametrize("name", ZOO)
def test_a_model_offers_no_fewer_families_than_its_structure_has(name):
    assert len(coupled(name)[1].families) >= len(ZOO[name].offers)


def test_units_of_a_family_lie_at_different_positions(name):
    for family in coupled(name)[1].families:
        for m in family.members:
            assert m.index.unique().numel() == m.index.numel()


def test_a_cut_model_gives_what_the_dense_one_gives_when_removed_units_are_read_as_zeros(made):
    assert made.exact


@pytest.mark.parametrize("name", [n for n in ZOO if n != "spectral_norm"])  # torch counts no product with a vector
def test_multiply_accumulates_are_those_that_torch_counts(name):
    model, coupling = coupled(name)
    assert coupling.macs() == macs_by_module(model, None, lambda m, _: ZOO[name].call()(m))[""]


def test_every_parameter_of_a_cut_model_gets_a_gradient_of_its_shape(made):
    model = copy.deepcopy(made.model).train()
    sum(t.square().sum() for t in zoo.tensors_in(made.call(model)) if t.is_floating_point()).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or p.grad.shape != p.shape]
    assert not missing


def test_a_plan_replayed_on_a_fresh_model_takes_the_tensors_of_the_cut_one(name, made):
    fresh = ZOO[name].model(seed=9)
    plan = Plan.from_json(json.loads(json.dumps(made.surgery.plan.to_json())))
    plan.replay_(fresh)
    fresh.load_state_dict(made.model.state_dict())
    buffers = dict(fresh.named_buffers())
    for n, buffer in made.model.named_buffers():
        buffers[n].copy_(buffer)  # a checkpoint stores those that a state_dict leaves out
    assert all(map(torch.equal, outputs(fresh, made.call), outputs(made.model, made.call)))


def test_a_plan_replays_on_the_meta_device(name, made):
    with torch.device("meta"):
        fresh = ZOO[name].build()
    made.surgery.plan.replay_(fresh)
    assert {n: p.shape for n, p in fresh.named_parameters()} == {n: p.shape for n, p in made.model.named_parameters()}


def test_a_copy_of_a_cut_model_gives_the_same(made):
    assert all(map(torch.equal, outputs(copy.deepcopy(made.model), made.call), outputs(made.model, made.call)))


def test_undone_a_cut_leaves_the_tensors_and_attributes_that_were_there(name):
    dense, coupling = coupled(name)
    model, call = copy.deepcopy(dense), ZOO[name].call()
    before = [(id(t), t.shape) for t in (*model.parameters(), *model.buffers())]
    keep = drawn(coupling, torch.Generator().manual_seed(1))
    zoo.cut_(model, call, coupling, coupling.gone(keep)).undo_(model)
    assert [(id(t), t.shape) for t in (*model.parameters(), *model.buffers())] == before
    assert all(map(torch.equal, outputs(model, call), outputs(dense, call)))


@pytest.mark.parametrize("part", range(8))
def test_no_cut_at_random_is_wrong(part):
    tally = zoo.random_cuts(range(part * CUTS // 8, (part + 1) * CUTS // 8))
    assert not tally.wrong
    assert set(tally.refused) <= NO_PROJECTION_LEFT


def test_a_model_that_depends_on_data_is_recorded_on_real_tensors():
    assert coupled("Branching")[1].graph.rung == "real tensors"


def test_batch_norm_goes_along_with_all_of_its_tensors():
    found = {m.name for m in coupled("Residual")[1]["a"].members}
    assert found >= {f"bn_a.{n}" for n in ("weight", "bias", "running_mean", "running_var")}


def test_a_residual_stream_is_one_family():
    found = {m.name for m in coupled("Residual")[1]["stem"].members}
    assert found >= {"stem.weight", "bn.weight", "a.weight", "b.weight", "bn_b.running_var", "head.weight"}


def test_channels_flattened_first_are_runs_of_columns():
    index = member(coupled("FlattenedChannelsFirst")[1]["stem"], "hidden.weight", 1)
    assert torch.equal(index, torch.arange(36).view(4, 9))


def test_channels_flattened_last_are_every_fourth_column():
    index = member(coupled("FlattenedChannelsLast")[1]["stem"], "hidden.weight", 1)
    assert torch.equal(index, torch.arange(36).view(9, 4).T)


def test_concatenated_channels_lie_behind_those_of_the_input():
    index = member(coupled("ConcatWithInput")[1]["a"], "b.weight", 1)
    assert index.flatten().tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("name", ["fused_contiguous", "fused_chunks"])
def test_a_head_of_a_contiguous_qkv_has_rows_in_three_blocks(name):
    index = member(coupled(name)[1]["attention.qkv/heads"], "attention.qkv.weight")
    rows = torch.arange(36).view(3, 4, 3)
    assert torch.equal(index, rows.transpose(0, 1).flatten(1))


def test_a_head_of_an_interleaved_qkv_is_one_run_of_rows():
    index = member(coupled("fused_interleaved")[1]["attention.qkv/heads"], "attention.qkv.weight")
    assert torch.equal(index, torch.arange(36).view(4, 9))


@pytest.mark.parametrize("name", ["grouped_queries_repeated", "grouped_queries_of_torch"])
def test_a_head_of_keys_goes_with_all_of_its_queries(name):
    family = coupled(name)[1]["attention.q/kv-groups"]
    assert torch.equal(member(family, "attention.q.weight"), torch.arange(24).view(2, 12))
    assert torch.equal(member(family, "attention.k.weight"), torch.arange(8).view(2, 4))


@pytest.mark.parametrize("name", ["grouped_queries_repeated", "grouped_queries_of_torch"])
def test_a_replica_is_one_query_head_of_every_key_head(name):
    index = member(coupled(name)[1]["attention.q/heads"], "attention.q.weight")
    assert torch.equal(index, torch.arange(24).view(2, 3, 4).transpose(0, 1).flatten(1))


@pytest.mark.parametrize(("name", "apart"), [("rotary_halves", 4), ("rotary_interleaved", 1)])
def test_features_that_a_rotation_mixes_go_together(name, apart):
    family = next(f for f in coupled(name)[1].families if f.kind == "head-dims" and f.size == 4)
    index = member(family, "attention.q.weight")
    assert torch.equal(index[:, 1] - index[:, 0], torch.full((4,), apart))
    assert torch.equal(member(family, "attention.inv_freq").flatten(), torch.arange(4))


def test_a_hidden_unit_of_an_lstm_owns_a_row_of_every_gate():
    index = member(coupled("lstm_both_ways")[1]["layers"], "layers.weight_ih_l1_reverse")
    assert torch.equal(index, torch.arange(28).view(4, 7).T)


def test_a_hidden_unit_read_from_both_directions_has_a_column_in_each():
    index = member(coupled("lstm_both_ways")[1]["layers"], "head.weight", 1)
    assert torch.equal(index, torch.arange(14).view(2, 7).T)


def test_the_wide_side_of_a_padded_shortcut_is_free_where_it_is_padded():
    coupling = coupled("PaddedShortcut")[1]
    index = next(member(f, "b.weight") for f in coupling.families if f.size == 6)
    assert sorted(index.flatten().tolist()) == [0, 1, 6, 7, 8, 9]


def test_a_tied_weight_is_one_site():
    found = [m.name for m in coupled("TiedEmbedding")[1]["words"].members]
    assert ("words.weight" in found) + ("head.weight" in found) == 1


def test_a_column_of_a_relative_bias_table_goes_with_its_head():
    family = next(f for f in coupled("relative_bias")[1].families if f.kind == "heads")
    assert torch.equal(member(family, "attention.table", 1).flatten(), torch.arange(4))


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("layer_norm", Tag.STATISTICS),
        ("GroupNorm", Tag.STATISTICS),
        ("rms_norm", Tag.RESCALE),
        ("hand_written_rms_norm", Tag.RESCALE),
        ("Residual", Tag.EXACT),
        ("attention", Tag.EXACT),
    ],
)
def test_a_family_tells_how_the_smaller_model_relates_to_the_dense_one(name, tag):
    assert max((f.tag for f in coupled(name)[1].families), key=list(Tag).index) is tag


@pytest.mark.parametrize("model", ["Residual", "GroupConv", "lstm_both_ways", "fused_interleaved", "GatedMlp"])
def test_multiplications_counted_by_labels_are_those_of_the_smaller_model(model):
    coupling = coupled(model)[1]
    keep = drawn(coupling, torch.Generator().manual_seed(3))
    again = zoo.couple(cut(model, keep).model, ZOO[model].call())
    assert again.macs() == coupling.macs(coupling.gone(keep)) < coupling.macs()
