"""Weights, N:M and blocks: what is found on every kind of layer, and what a choice does to it."""

import copy

import pytest
import torch
from torch import nn

from secateur.core import Choice, Keep, RecipeError, SubjectError, TopK, masks_of
from secateur.structures import NM, Blocks, Weights, structure
from secateur.tasks.models import WordLSTM


class Net(nn.Module):
    """One of each."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.embedding = nn.Embedding(12, 8)
        self.block = nn.ModuleDict({"first": nn.Linear(8, 12), "second": nn.Linear(12, 4)})


def found(structure, model):
    return {g.name: g.shape for g in structure.find(model)}


@pytest.mark.parametrize(
    "layer, shapes",
    [
        (nn.Linear(3, 4), {"weight": (4, 3)}),
        (nn.Bilinear(3, 4, 5), {"weight": (5, 12)}),
        (nn.Conv1d(3, 4, 5), {"weight": (4, 15)}),
        (nn.Conv2d(4, 6, 3, groups=2), {"weight": (6, 18)}),
        (nn.Conv3d(2, 4, (1, 2, 3)), {"weight": (4, 12)}),
        (nn.ConvTranspose1d(3, 4, 5), {"weight": (4, 15)}),
        (nn.ConvTranspose2d(3, 4, 2), {"weight": (4, 12)}),
        (nn.ConvTranspose3d(2, 4, 1), {"weight": (4, 2)}),
        (nn.GRU(3, 4, bias=False), {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4)}),
        (nn.LSTMCell(3, 4), {"weight_ih": (16, 3), "weight_hh": (16, 4)}),
        (
            nn.LSTM(3, 4, bidirectional=True, proj_size=2),
            {
                "weight_ih_l0": (16, 3),
                "weight_hh_l0": (16, 2),
                "weight_hr_l0": (2, 4),
                "weight_ih_l0_reverse": (16, 3),
                "weight_hh_l0_reverse": (16, 2),
                "weight_hr_l0_reverse": (2, 4),
            },
        ),
        (nn.MultiheadAttention(4, 2), {"in_proj_weight": (12, 4), "out_proj.weight": (4, 4)}),
        (
            nn.MultiheadAttention(4, 2, kdim=3, vdim=5),
            {
                "q_proj_weight": (4, 4),
                "k_proj_weight": (4, 3),
                "v_proj_weight": (4, 5),
                "out_proj.weight": (4, 4),
            },
        ),
    ],
    ids=lambda p: type(p).__name__ if isinstance(p, nn.Module) else "",
)
def test_every_kind_of_layer_has_its_matrices_with_outputs_as_rows(layer, shapes):
    assert found(Weights(), layer) == shapes


def test_biases_norms_and_embeddings_are_left_alone():
    assert list(found(Weights(), Net())) == ["conv.weight", "block.first.weight", "block.second.weight"]


def test_a_layer_of_transformers_that_stores_inputs_first_is_turned():
    class Conv1D(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))

    (group,) = Weights().find(Conv1D())
    assert group.weight.tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_an_embedding_that_is_left_out_is_named():
    assert Weights().find(Net()).skipped == {"embedding.weight": "an embedding table"}


def test_embeddings_are_pruned_on_request():
    assert found(Weights(embeddings=True), Net())["embedding.weight"] == (12, 8)


@pytest.mark.parametrize(
    "patterns, names",
    [
        ({"include": ("conv",)}, ["conv.weight"]),
        ({"include": ("conv.weight",)}, ["conv.weight"]),
        ({"include": ("block.*",)}, ["block.first.weight", "block.second.weight"]),
        ({"exclude": ("*.second",)}, ["conv.weight", "block.first.weight"]),
        ({"include": ("block.*",), "exclude": ("block.first.weight",)}, ["block.second.weight"]),
    ],
    ids=["module", "tensor", "pattern", "exclude", "both"],
)
@pytest.mark.parametrize("kind", [Weights, lambda **p: NM(2, 4, **p), lambda **p: Blocks(2, 2, **p)])
def test_patterns_choose_by_module_and_by_tensor(kind, patterns, names):
    assert list(found(kind(**patterns), Net())) == names


def test_what_patterns_leave_out_is_named():
    assert Weights(exclude=("conv",)).find(Net()).skipped["conv.weight"] == "left out by include or exclude"


def tied():
    model = WordLSTM(8, 4)
    model.decoder.weight = model.embedding.weight
    return model


def test_a_tied_tensor_is_one_group():
    names = list(found(Weights(embeddings=True), tied()))
    assert names == ["embedding.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0"]


def test_a_matrix_that_is_tied_to_an_embedding_counts_as_an_embedding():
    space = Weights().find(tied())
    assert space.skipped == {"embedding.weight": "an embedding table tied to decoder.weight"}


def test_a_tied_tensor_is_left_out_under_either_name():
    assert "embedding.weight" in Weights(embeddings=True, exclude=("decoder",)).find(tied()).skipped


def test_nothing_to_prune_lists_the_kinds_of_modules():
    with pytest.raises(SubjectError, match=r"(?s)nothing to prune.*BatchNorm1d, Embedding"):
        Weights().find(nn.Sequential(nn.BatchNorm1d(3), nn.Embedding(3, 3), nn.ReLU()))


@pytest.mark.parametrize("kind", [Weights(), NM(), Blocks()], ids=str)
def test_what_is_no_module_has_no_weights(kind):
    with pytest.raises(SubjectError, match="list has no weights"):
        kind.find([1, 2])


def test_a_unit_costs_its_parameters_and_bytes():
    model = nn.Linear(4, 8, dtype=torch.bfloat16)
    costs = [dict(next(iter(s.find(model))).costs) for s in (Weights(), Blocks(2, 4))]
    assert costs == [{"params": 1.0, "bytes": 2.0}, {"params": 8.0, "bytes": 16.0}]


def test_the_floor_of_weights_keeps_a_smaller_matrix_whole():
    model = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 1))
    assert [g.floor for g in Weights(floor=20).find(model)] == [20, 10]


def nm_keep(space):
    scores = {g.name: g.weight.abs().reshape(g.lanes, g.lane) for g in space}
    rng = torch.Generator()
    return Keep({g.name: TopK()(scores[g.name], g.exact, rng).reshape(g.shape) for g in space})


LAYERS = {
    "linear": (nn.Linear(8, 6), 1),
    "conv": (nn.Conv2d(8, 6, 3), 1),
    "grouped": (nn.Conv2d(16, 6, 3, groups=2), 1),
    "conv1d": (nn.Conv1d(8, 6, 3), 1),
    "transposed": (nn.ConvTranspose2d(8, 6, 3), 0),
}


@pytest.mark.parametrize("layer, axis", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("n, m", [(2, 4), (1, 4), (3, 8), (1, 2)])
def test_n_of_every_m_neighbouring_input_channels_stay_at_each_kernel_position(layer, axis, n, m):
    layer = nn.Sequential(copy.deepcopy(layer))
    kind, before = NM(n, m), layer[0].weight.detach().clone()
    space = kind.find(layer)
    kind.apply_(layer, Choice(nm_keep(space)))
    lanes = layer[0].weight.movedim(axis, -1).unflatten(-1, (-1, m))
    whole = before.movedim(axis, -1).unflatten(-1, (-1, m))
    assert ((lanes != 0).sum(-1) == n).all()
    assert (lanes.abs().amax(-1) == whole.abs().amax(-1)).all()  # the largest of each lane is among them


def test_one_of_four_keeps_a_single_weight_of_four():
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.1, -3.0, 2.0, 1.0]]))
    kind = NM(1, 4)
    kind.apply_(model, Choice(nm_keep(kind.find(model))))
    assert model.weight.tolist() == [[0.0, -3.0, 0.0, 0.0]]


def test_a_matrix_that_m_does_not_divide_is_left_out_with_its_axis():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.ConvTranspose2d(6, 4, 3))
    space = NM(2, 4).find(model)
    assert [g.name for g in space] == ["1.weight"]
    assert space.skipped == {
        "0.weight": "4 does not divide its 3 input channels (axis 1)",
        "2.weight": "4 does not divide its 6 input channels (axis 0)",
    }


def test_no_matrix_that_m_divides_is_an_error_that_names_each():
    with pytest.raises(SubjectError, match=r"(?s)2:4.*weight: 4 does not divide its 3 input channels"):
        NM(2, 4).find(nn.Linear(3, 4))


@pytest.mark.parametrize("n, m", [(0, 4), (4, 4), (5, 4), (-1, 2)])
def test_a_pattern_that_keeps_nothing_or_all_is_refused(n, m):
    with pytest.raises(RecipeError, match=f"{n}:{m} is no pattern"):
        NM(n, m)


def test_a_block_goes_as_a_whole():
    model, kind = nn.Linear(6, 4), Blocks(2, 3)
    keep = torch.tensor([[True, False], [False, True]])
    kind.apply_(model, Choice(Keep({"weight": keep})))
    expected = torch.zeros(4, 6, dtype=torch.bool)
    expected[:2, :3] = expected[2:, 3:] = True
    assert torch.equal(model.weight != 0, expected)


def test_a_matrix_that_the_block_does_not_divide_is_left_out():
    space = Blocks(4, 4).find(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 10)))
    assert [g.name for g in space] == ["0.weight"] and "10x8" in space.skipped["1.weight"]


def test_no_matrix_that_the_block_divides_is_an_error():
    with pytest.raises(SubjectError, match="no matrix can be cut into blocks of 4x4"):
        Blocks(4, 4).find(nn.Linear(3, 3))


def test_an_empty_block_is_refused():
    with pytest.raises(RecipeError, match="0x4"):
        Blocks(0, 4)


def test_applying_a_choice_masks_the_weights_and_says_so():
    model, keep = nn.Linear(3, 2), torch.tensor([[True, False, True], [False, True, True]])
    subject, plan = Weights().apply_(model, Choice(Keep({"weight": keep})))
    assert subject is model and torch.equal(masks_of(model)["weight"], keep) and torch.equal(model.weight != 0, keep)
    assert [a.tensor for a in plan.actions] == ["weight"]


def test_new_values_are_written_under_the_mask():
    model, keep = nn.Linear(2, 1, bias=False), torch.tensor([[True, False]])
    Weights().apply_(model, Choice(Keep({"weight": keep}), {"weight": torch.tensor([[5.0, 6.0]])}))
    assert model.weight.tolist() == [[5.0, 0.0]]


def test_a_keep_of_another_model_changes_nothing():
    model = nn.Linear(2, 1, bias=False)
    before = model.weight.detach().clone()
    keep = Keep({"weight": torch.zeros(1, 2, dtype=torch.bool), "other": torch.zeros(1, 1, dtype=torch.bool)})
    with pytest.raises(SubjectError, match="'other'"):
        Weights().apply_(model, Choice(keep))
    assert torch.equal(model.weight, before) and not masks_of(model)


@pytest.mark.parametrize(
    "text, kind",
    [
        ("weights", Weights()),
        ("2:4", NM(2, 4)),
        ("1:16", NM(1, 16)),
        ("4x1", Blocks(4, 1)),
        (" Blocks 8x2 ", Blocks(8, 2)),
        ("block 1x4", Blocks(1, 4)),
    ],
)
def test_a_short_text_names_a_structure(text, kind):
    assert structure(text) == kind


@pytest.mark.parametrize("text", ["channel", "2-4", "4x", "2:4:8", ""])
def test_a_text_that_names_none_is_refused(text):
    with pytest.raises(RecipeError, match='"2:4"'):
        structure(text)


def test_the_lanes_of_a_grouped_transposed_convolution_stay_inside_a_group():
    space = NM(2, 4).find(nn.Sequential(nn.ConvTranspose2d(16, 8, 3, groups=2), nn.Linear(4, 4)))
    assert [g.name for g in space] == ["0.weight", "1.weight"]
    with pytest.raises(SubjectError, match="4 does not divide its 2 input channels"):
        NM(2, 4).find(nn.Sequential(nn.ConvTranspose2d(8, 8, 3, groups=4)))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [("1.weight", (4, 3), r"\(4, 3\).*\(3, 4\)"), ("2.weight", (3, 4), "no group of this model")],
    ids=["shape", "name"],
)
def test_a_keep_that_does_not_fit_is_refused_before_anything_changes(name, shape, message):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    before = copy.deepcopy(model.state_dict())
    keep = Keep({"0.weight": torch.zeros(4, 4, dtype=torch.bool), name: torch.ones(shape, dtype=torch.bool)})
    with pytest.raises(SubjectError, match=message):
        Weights().apply_(model, Choice(keep))
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
