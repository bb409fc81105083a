"""Retraining a tiny subset: what is trained and what is not, masks, resuming, composition, refusals."""

import copy
import logging
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

import secateur as sc
from secateur.core import Healing, RecipeError, Recovery, SubjectError, attach_mask_, masks_of, merge_kept_
from secateur.recovery import Distill, FineTune, MovingAverage, ParameterEfficient, ScratchE
from secateur.recovery.tiny_subsets import biases_of, chosen, head_of, norms_of
from secateur.tasks.digits import Images

STEPS = FineTune(epochs=1, optimizer="adamw", lr=0.05, lr_schedule="linear", warmup=0.1)


class Net(nn.Module):
    """A convolution, batch norm, two hidden layers and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.first, self.second, self.out = nn.Linear(64, 12), nn.Linear(12, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x))).flatten(1)
        return self.out(torch.relu(self.second(torch.relu(self.first(x)))))


def net(seed=0):
    torch.manual_seed(seed)
    return Net()


def task(**changes):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(48, 1, 4, 4, generator=g), torch.randint(4, (48,), generator=g)
    return sc.Task(train=Images(x[:32], y[:32]), test=Images(x[32:], y[32:]), batch_size=8, model=net, **changes)


@dataclass(frozen=True)
class Spy(Recovery):
    """Looks at gradients between backward pass and step."""

    seen: list

    def begin(self, model, task):
        spy = Healing()
        spy.before_step_ = lambda: self.seen.append({n for n, p in model.named_parameters() if p.grad is not None})
        return spy


def prune(
    model=None, subsets=("norm",), recovery=(), structure=None, schedule=None, sparsity=0.5, run=None, **settings
):
    recipe = sc.Recipe(
        structure=structure or sc.structures.Weights(),
        score=sc.scores.Magnitude(),
        budget=sc.budgets.Uniform(),
        schedule=schedule,
        recovery=(STEPS, ParameterEfficient(subsets, **settings), *recovery),
    )
    implied = isinstance(structure, sc.structures.NM)
    return sc.prune(
        net() if model is None else model, recipe, sparsity=None if implied else sparsity, task=task(), run=run
    )


def changed(result, before=None):
    """Names of tensors that are not the bits of the masked dense model."""
    before = net().state_dict() if before is None else before
    masked = {n: torch.where(result.masks[n], t, 0) if n in result.masks else t for n, t in before.items()}
    return {n for n, t in result.subject.state_dict().items() if not torch.equal(t, masked[n])}


STATISTICS = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
BIASES = {"conv.bias", "norm.bias", "first.bias", "second.bias", "out.bias"}
TRAINED = {
    "biases": BIASES,
    "norm": {"norm.weight", "norm.bias"},
    "lora": {"first.weight", "second.weight"},
    "head": {"out.weight", "out.bias"},
}


@pytest.mark.parametrize("subset", TRAINED)
def test_what_is_not_chosen_keeps_its_bits(subset):
    assert changed(prune(subsets=(subset,))) == TRAINED[subset] | STATISTICS


@pytest.mark.parametrize("subset", TRAINED)
def test_only_what_is_trained_has_a_gradient(subset):
    seen = []
    prune(subsets=(subset,), recovery=(Spy(seen),))
    assert len(seen) == 4 and all(names == TRAINED[subset] - {"first.weight", "second.weight"} for names in seen)


@pytest.mark.parametrize("variant", ["mask_lora", "scale_lora", "lora_prune"])
def test_names_shapes_and_zeros_are_those_of_the_masked_model(variant):
    result = prune(subsets=("biases", "norm", "lora", "head"), lora=variant, rank=3)
    dense, state = net().state_dict(), result.subject.state_dict()
    assert list(state) == list(dense) and all(state[n].shape == dense[n].shape for n in dense)
    plain = prune(subsets=("norm",))
    for name, mask in result.masks.items():
        assert (state[name][~mask] == 0).all() and torch.equal(mask, plain.masks[name])
    assert result.sparsity["sparsity"] == plain.sparsity["sparsity"]
    assert not [p for p in result.subject.parameters() if not p.requires_grad or p.grad is not None]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in result.subject.modules())


def test_the_share_that_was_trained_is_told():
    facts = prune(subsets=("norm", "lora"), rank=3).provenance["parameter_efficient"]
    trained, total = 8 + 3 * (64 + 12) + 3 * (12 + 8), sum(p.numel() for p in net().parameters())
    assert facts == {"trained": trained, "of": total, "share": trained / total, "adapted": ["first", "second"]}


def test_a_parameter_in_two_subsets_counts_once():
    facts = prune(subsets=("norm", "biases")).provenance["parameter_efficient"]
    assert facts["trained"] == 4 + 4 + 4 + 12 + 8 + 4


def test_masks_are_the_stored_ones_and_not_where_weights_are_zero():
    model = net()
    with torch.no_grad():
        model.first.weight.zero_()
    result = prune(model, subsets=("lora",))
    assert result.masks["first.weight"].sum() == 64 * 12 / 2
    assert (result.subject.first.weight[result.masks["first.weight"]] != 0).float().mean() > 0.5


def test_a_whole_head_stays_under_its_mask():
    result = prune(subsets=("head",))
    assert (result.subject.out.weight[~result.masks["out.weight"]] == 0).all()


@pytest.mark.parametrize("variant", ["mask_lora", "scale_lora", "lora_prune"])
def test_pruning_goes_on_from_the_merged_weights(variant):
    schedule, seen = sc.schedules.CubicGradual(begin=0.0, end=0.8, every=0.2), []
    result = prune(subsets=("lora", "norm"), lora=variant, schedule=schedule, sparsity=0.7, recovery=(Spy(seen),))
    first, last = result.history[0]["step"], result.history[-1]["step"]
    assert last > first and result.sparsity["sparsity"] == pytest.approx(0.7, abs=0.01)
    assert all("conv.weight" in names for names in seen[:first])  # before the first pruning, everything is trained
    assert len(seen) == 4 and all(names == TRAINED["norm"] for names in seen[first:])
    assert all((result.subject.state_dict()[n][~mask] == 0).all() for n, mask in result.masks.items())


def test_patterns_of_n_in_m_hold():
    result = prune(subsets=("lora",), structure=sc.structures.NM(2, 4))
    assert (result.subject.first.weight.view(12, -1, 4).count_nonzero(-1) <= 2).all()
    assert "first.weight" in changed(result)


def test_after_channels_were_cut_no_mask_is_needed_and_all_linear_layers_but_the_head_are_adapted():
    result = prune(subsets=("lora", "norm"), structure=sc.structures.Channels())
    assert result.provenance["parameter_efficient"]["adapted"] == ["first", "second"]
    assert result.subject.first.weight.shape[0] < 12 and not result.masks


def test_after_layers_were_taken_out_it_works():
    model = nn.Sequential(nn.Linear(8, 8), nn.Sequential(*(_Residual() for _ in range(4))), nn.Linear(8, 2))
    x, y = torch.randn(16, 8), torch.randint(2, (16,))
    goal = sc.Task(train=Images(x, y), test=Images(x, y), batch_size=8)
    result = sc.prune(
        model, "perp", structure=sc.structures.Layers(), sparsity=0.5, task=goal, subsets=("norm", "lora"), rank=2
    )
    facts = result.provenance["parameter_efficient"]
    assert len(facts["adapted"]) == 3 and facts["of"] == sum(p.numel() for p in result.subject.parameters())


class _Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        return x + torch.relu(self.linear(self.norm(x)))


@pytest.mark.parametrize("recovery", ["fine-tune(epochs=1)+parameter-efficient(subsets=[norm],rank=4)+distill"])
def test_it_is_named_in_a_text(recovery):
    result = sc.prune(net(), "magnitude", sparsity=0.5, task=task(), recovery=recovery)
    assert changed(result) == TRAINED["norm"] | STATISTICS


def test_a_teacher_goes_with_it():
    assert changed(prune(subsets=("lora",), recovery=(Distill(),))) == TRAINED["lora"] | STATISTICS


def test_gradients_are_clipped_over_adapters_too():
    recipe = sc.Recipe(
        sc.structures.Weights(),
        sc.scores.Magnitude(),
        recovery=(FineTune(1, optimizer="sgd", momentum=0.0, lr=1.0, clip=1e-6), ParameterEfficient(("lora",))),
    )
    result = sc.prune(net(), recipe, sparsity=0.5, task=task())
    start = torch.where(result.masks["first.weight"], net().first.weight, 0)
    torch.testing.assert_close(result.subject.first.weight, start, rtol=0, atol=1e-4)


def test_what_wanted_no_gradient_before_wants_none_afterwards():
    model = net()
    model.conv.weight.requires_grad_(False)
    prune(model)
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["conv.weight"]


def test_a_plain_adapter_stays_beside_a_sparse_weight_and_is_saved_with_it(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 4))
    result = prune(model, subsets=("lora",), lora="lora", rank=2)
    x = torch.randn(3, 1, 4, 4)
    mask, given = result.masks["1.weight"], result.subject(x)
    assert (result.subject[1].weight[~mask] == 0).all()
    result.save(tmp_path / "saved")
    loaded = sc.load(tmp_path / "saved")
    assert list(loaded.state_dict()) == list(result.subject.state_dict()) and torch.equal(loaded(x), given)
    assert merge_kept_(loaded) == ["1.weight"] and torch.equal(loaded(x), given)
    assert (loaded[1].weight[~mask] != 0).any()


def test_a_plain_adapter_is_not_merged_to_prune_more():
    with pytest.raises(RecipeError, match="use mask_lora"):
        prune(subsets=("lora",), lora="lora", schedule=sc.schedules.CubicGradual(begin=0.0, end=0.8, every=0.2))


def test_what_an_earlier_run_left_beside_a_weight_is_merged_first():
    result = prune(subsets=("lora",), lora="lora")
    with pytest.raises(SubjectError, match="merge_kept_"):
        prune(result.subject, subsets=("lora",))


def test_norms_of_any_library_are_found():
    class TinyRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

    model = nn.ModuleDict(
        {"a": nn.LayerNorm(3), "b": nn.RMSNorm(3), "c": nn.BatchNorm1d(3), "d": TinyRMSNorm(), "e": nn.Linear(3, 3)}
    )
    assert sorted(norms_of(model)) == ["a.bias", "a.weight", "b.weight", "c.bias", "c.weight", "d.weight"]


def test_biases_of_recurrent_layers_and_attentions_are_biases():
    model = nn.ModuleDict({"a": nn.LSTM(2, 3), "b": nn.MultiheadAttention(4, 2), "c": nn.Embedding(3, 2)})
    assert sorted(biases_of(model)) == ["a.bias_hh_l0", "a.bias_ih_l0", "b.in_proj_bias", "b.out_proj.bias"]


def test_a_model_that_ends_in_a_norm_has_no_head():
    assert head_of(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))[0] is None
    assert head_of(net())[0] == "out"


def test_the_projection_inside_an_attention_is_not_adapted():
    model = nn.ModuleDict({"attention": nn.MultiheadAttention(4, 2), "mlp": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
    attach_mask_(model, "attention.out_proj.weight", torch.ones(4, 4, dtype=torch.bool))
    attach_mask_(model, "mlp.weight", torch.ones(4, 4, dtype=torch.bool))
    assert chosen(model, ("lora",)).adapted == ["mlp"]


def test_only_masked_layers_are_adapted_where_some_are():
    model = net()
    attach_mask_(model, "second.weight", torch.ones(8, 12, dtype=torch.bool))
    assert chosen(model, ("lora",)).adapted == ["second"]
    assert chosen(model, ("lora",), ("first", "sec*")).adapted == ["first", "second"]


def without_biases():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8, bias=False), nn.Linear(8, 4, bias=False))


def test_biases_of_a_model_without_any_are_an_error_that_names_them():
    model = without_biases()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RecipeError, match="biases: Sequential has no biases"):
        prune(model, subsets=("biases",))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_one_empty_subset_among_others_is_a_warning_said_once(caplog):
    schedule = sc.schedules.CubicGradual(begin=0.0, end=0.8, every=0.2)
    with caplog.at_level(logging.WARNING):
        prune(without_biases(), subsets=("biases", "lora"), schedule=schedule)
    assert [r.message for r in caplog.records if "biases" in r.message] == [
        "biases: nothing is trained of it, because Sequential has no biases"
    ]


def test_a_target_that_is_not_there_names_candidates():
    with pytest.raises(RecipeError, match="did you mean 'second'"):
        prune(subsets=("lora",), targets=("secnd",))
    with pytest.raises(RecipeError, match="choose one of: first, out, second"):
        prune(subsets=("lora",), targets=("q_proj",))


def test_a_quantised_weight_is_refused():
    model = net()
    model.second.weight = nn.Parameter(torch.ones(8, 12, dtype=torch.int8), requires_grad=False)
    with pytest.raises(SubjectError, match=r"(?s)int8.*layer 'second'"), torch.no_grad():
        chosen(model, ("lora",))


def test_masks_of_torch_are_to_be_adopted_first():
    model = net()
    torch_prune.l1_unstructured(model.first, "weight", 0.5)
    with pytest.raises(SubjectError, match="adopt_torch_masks_"):
        chosen(model, ("lora",))
    sc.core.adopt_torch_masks_(model)
    assert chosen(model, ("lora",)).adapted == ["first"] and "first.weight" in masks_of(model)


def test_a_weight_with_two_owners_is_left_alone():
    model = net()
    model.first = nn.Linear(64, 12)
    model.other = nn.Embedding(12, 64)
    model.other.weight = model.first.weight
    assert chosen(model, ("lora",)).adapted == ["second", "out"]
    with pytest.raises(RecipeError, match=r"is also other\.weight"):
        chosen(model, ("lora",), ("first",))


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"subsets": ()}, "no subset is chosen"),
        ({"rank": 0}, "1 or more"),
        ({"alpha": 0.0}, "above 0"),
        ({"alpha": float("nan")}, "above 0"),
        ({"subsets": ("norm",), "targets": ("first",)}, 'add "lora"'),
    ],
    ids=str,
)
def test_bad_settings_are_refused(settings, match):
    with pytest.raises(RecipeError, match=match):
        ParameterEfficient(**settings)


@pytest.mark.parametrize("wrong", ["subsets=[bias]", "subsets=norm", "lora=masked", "rank=two", "ranks=2"])
def test_bad_settings_in_a_text_are_refused(wrong):
    with pytest.raises(RecipeError, match=wrong.partition("=")[0]):
        sc.prune(net(), "magnitude", sparsity=0.5, task=task(), recovery=f"fine-tune+parameter-efficient({wrong})")


@pytest.mark.parametrize(
    "other", [MovingAverage(), ScratchE(), ParameterEfficient(), sc.recovery.ScaleSparsity(sc.structures.Channels(), 1)]
)
def test_recoveries_that_need_all_weights_are_refused(other):
    with pytest.raises(RecipeError, match="most are frozen"):
        prune(recovery=(other,))


def test_without_training_it_is_refused():
    with pytest.raises(RecipeError, match="nothing trains"):
        sc.prune(net(), "magnitude", sparsity=0.5, task=task(), recovery="parameter-efficient")
