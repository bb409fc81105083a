"""Channels, heads and hidden units: found, chosen from, cut for real; what the cut leaves and what it refuses."""

import copy
import sys

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.core import Choice, Keep, Target
from secateur.structures import Channels, structure


class Block(nn.Module):
    """A stem, a residual block with a bottleneck, a classifier."""

    def __init__(self, width=16, inner=24, classes=10):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.down = nn.Conv2d(width, inner, 1)
        self.up = nn.Conv2d(inner, width, 1)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.up(torch.relu(self.down(x)))
        return self.head(x.mean((2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Block()


@pytest.fixture
def images():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def seeing(images, **settings):
    return Channels(**settings).seeing(lambda model: model(images))


def wide():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 300), nn.ReLU(), nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 5))


def test_a_group_has_a_unit_for_each_coupled_channel(model, images):
    space = Channels().find(model, images)
    assert {g.name: (g.size, g.kind) for g in space} == {"stem": (16, "channels"), "down": (24, "channels")}


def test_the_members_of_a_group_are_all_tensors_that_a_channel_lies_in(model, images):
    stem = Channels().find(model, images)["stem"]
    assert {(m.group.name, m.dim) for m in stem.members} == {
        ("stem.weight", 0),
        ("stem.bias", 0),
        ("norm.weight", 0),
        ("norm.bias", 0),
        ("norm.running_mean", 0),
        ("norm.running_var", 0),
        ("down.weight", 1),
        ("up.weight", 0),
        ("up.bias", 0),
        ("head.weight", 1),
    }


def test_the_cost_of_a_unit_is_what_removing_it_saves(model, images):
    space = Channels().find(model, images)
    keep = torch.ones(24, dtype=torch.bool)
    keep[3] = False
    whole, less = (space.totals["params"](k) for k in ({}, {"down": keep}))
    assert whole - less == space["down"].costs["params"]


@pytest.mark.parametrize("name", ["macs", "params", "bytes"])
def test_the_closed_form_of_a_cost_equals_what_the_cut_model_costs(model, images, name):
    looking = seeing(images)
    space = looking.find(model)
    keep = Keep({g.name: torch.rand(g.size, generator=torch.Generator().manual_seed(2)) < 0.6 for g in space})
    expected = space.totals[name](keep.masks)
    cut, _ = looking.apply_(model, Choice(keep))
    assert Channels().find(cut, images).totals[name]({}) == expected


def test_a_pattern_leaves_out_every_group_that_touches_it(model, images):
    assert [g.name for g in Channels(exclude=("norm*",)).find(model, images)] == ["down"]
    assert [g.name for g in Channels(include=("up",)).find(model, images)] == ["stem", "down"]


def test_what_is_left_out_or_frozen_is_told_with_its_reason(model, images):
    skipped = Channels(exclude=("norm*",)).find(model, images).skipped
    assert skipped["stem"] == "excluded"
    assert "output of the model" in skipped["head.weight, dimension 0"]


def test_without_an_example_the_error_says_how_to_give_one(model):
    with pytest.raises(sc.SubjectError, match="example=inputs"):
        Channels().find(model)


def test_a_masked_model_is_refused(model, images):
    sc.core.attach_mask_(model, "stem.weight", torch.ones_like(model.stem.weight, dtype=torch.bool))
    with pytest.raises(sc.SubjectError, match="remove_masks_"):
        Channels().find(model, images)


@pytest.mark.parametrize(
    "wrap, mend",
    [
        (nn.DataParallel, r"model\.module"),
        (lambda m: torch.compile(m, backend="eager"), "_orig_mod"),
        (lambda m: torch.jit.script(nn.Sequential(nn.Linear(3, 3))), "scripted"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_wrapper_is_refused_and_how_to_unwrap_it_is_told(model, images, wrap, mend):
    with pytest.raises(sc.SubjectError, match=mend):
        Channels().find(wrap(model), images)


def test_parameters_that_overlap_in_memory_are_refused_by_name(model, images):
    model.up.bias = nn.Parameter(model.norm.weight.detach())
    with pytest.raises(sc.SubjectError, match=r"norm\.weight.*up\.bias"):
        Channels().find(model, images)


def test_a_pass_without_end_is_refused(model, images, monkeypatch):
    monkeypatch.setattr(sys.modules["secateur.graph.capture"], "_MOST_OPERATIONS", 5)
    with pytest.raises(sc.SubjectError, match="shorter example"):
        Channels().find(model, images)


def test_an_unknown_kind_is_refused_and_the_known_are_named():
    with pytest.raises(sc.RecipeError, match="kv-groups"):
        Channels(kinds=("filters",))


@pytest.mark.parametrize(
    "text, kinds", [("channels", ()), ("heads", ("heads",)), ("heads, hidden", ("heads", "hidden"))]
)
def test_a_text_names_all_units_or_some_kinds(text, kinds):
    assert structure(text) == Channels(kinds=kinds)


def test_counts_are_multiples_where_the_group_allows(model, images):
    result = sc.prune(model, "magnitude", structure=Channels(multiple=8), sparsity=0.4, example=images)
    assert {n: c % 8 for n, c in result.keep.counts.items()} == {"stem": 0, "down": 0}


def test_a_floor_is_kept(model, images):
    result = sc.prune(model, "magnitude", structure=Channels(floor=10), sparsity=0.9, example=images)
    assert result.keep.counts == {"stem": 10, "down": 10}


@pytest.mark.parametrize("cost", ["macs", "params", "bytes"])
@pytest.mark.parametrize("share", [0.7, 0.3])
def test_a_target_of_a_cost_is_met_within_one_percent(cost, share):
    result = sc.prune(wide(), "magnitude", structure="channels", example=torch.randn(2, 20), **{cost: share})
    assert result.after[cost] / result.before[cost] == pytest.approx(share, rel=0.01)


def test_a_target_that_whole_units_cannot_meet_names_the_nearest(images, caplog):
    result = sc.prune(Block(2, 2), "magnitude", structure="channels", params=0.8, example=images)
    met = result.after["params"] / result.before["params"]
    assert abs(met - 0.8) > 0.008
    assert f"nearest that whole units allow is {met:.4g}" in caplog.text


def test_a_target_that_nothing_can_meet_says_what_can(images):
    with pytest.raises(sc.BudgetError, match=r"params=0\.66"):
        sc.prune(Block(2, 2, 1000), "magnitude", structure=Channels(kinds=("channels",)), params=0.1, example=images)


def test_two_targets_are_refused(model, images):
    with pytest.raises(sc.RecipeError, match="both sparsity and macs"):
        sc.prune(model, "magnitude", structure="channels", sparsity=0.5, macs=0.5, example=images)


def test_weights_have_no_target_of_macs(model, images):
    with pytest.raises(sc.RecipeError, match="no target of 'macs'"):
        sc.prune(model, "magnitude", macs=0.5, example=images)


def test_the_cut_weights_are_the_dense_ones_at_the_kept_positions(model, images):
    dense = copy.deepcopy(model)
    result = sc.prune(model, "magnitude", structure="channels", sparsity=0.5, example=images)
    stem, down = result.keep["stem"], result.keep["down"]
    assert torch.equal(model.down.weight, dense.down.weight[down][:, stem])
    assert torch.equal(model.norm.running_var, dense.norm.running_var[stem])


def test_after_several_rounds_the_keep_speaks_of_the_channels_of_the_dense_model(model, images):
    dense = copy.deepcopy(model)
    recipe = sc.Recipe(
        structure=Channels(),
        score=sc.scores.Magnitude(),
        budget=sc.budgets.Global(),
        schedule=sc.schedules.Iterative(rounds=3),
    )
    result = sc.prune(model, recipe, sparsity=0.5, example=images)
    assert torch.equal(model.down.weight, dense.down.weight[result.keep["down"]][:, result.keep["stem"]])
    assert result.sparsity["sparsity"] == pytest.approx(0.5, abs=0.03)


def test_the_sizes_that_modules_keep_as_attributes_follow(model, images):
    sc.prune(model, "magnitude", structure="channels", sparsity=0.5, example=images)
    assert (model.stem.out_channels, model.norm.num_features, model.head.in_features) == (8, 8, 8)


@pytest.mark.parametrize("make", [lambda m: copy.deepcopy(m), lambda m: torch.compile(m, backend="eager")])
def test_the_cut_model_copies_compiles_and_exports(model, images, make):
    sc.prune(model, "magnitude", structure="channels", sparsity=0.5, example=images)
    model.eval()
    assert torch.equal(make(model)(images), model(images))
    exported = torch.export.export(model, (images,)).module()
    torch.testing.assert_close(exported(images), model(images))


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), torch.optim.AdamW])
def test_moments_are_cut_with_their_parameters(model, images, make):
    optimizer = make(model.parameters())
    model(images).sum().backward()
    optimizer.step()
    before = {n: optimizer.state[p] for n, p in model.named_parameters()}
    looking = seeing(images)
    keep = Keep({"down": torch.arange(24) % 3 > 0})
    looking.apply_(model, Choice(keep))
    optimizer.zero_grad()
    model(images).sum().backward()
    with torch.no_grad():
        for group in optimizer.param_groups:
            group["lr"] = 0.0
    optimizer.step()
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    for key, moment in before["down.weight"].items():
        now = optimizer.state[model.down.weight][key]
        assert now.shape == (model.down.weight.shape if moment.dim() else ())


def test_a_momentum_goes_on_with_the_values_it_had(model, images):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=1.0)
    model(images).sum().backward()
    optimizer.step()
    had = optimizer.state[model.up.weight]["momentum_buffer"].clone()
    keep = torch.arange(24) < 10
    seeing(images).apply_(model, Choice(Keep({"down": keep})))
    optimizer.zero_grad()
    optimizer.step()  # follows, and has no gradient to add
    assert torch.equal(optimizer.state[model.up.weight]["momentum_buffer"], had[:, keep])


def test_pruning_in_a_loop_of_ones_own_reaches_the_target(model, images):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    recipe = sc.Recipe(
        structure=Channels(),
        score=sc.scores.Magnitude(2),
        budget=sc.budgets.Global(),
        schedule=sc.schedules.CubicGradual(every=3),
    )
    pruner = sc.Pruner(model, recipe, total_steps=12, sparsity=0.5, example=images)
    for _ in range(12):
        model(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        pruner.step()
    keep = pruner.finalize()
    assert sum(keep.counts.values()) == 20
    assert model.down.weight.shape[:2] == (keep.counts["down"], keep.counts["stem"])


def test_a_loop_of_ones_own_can_aim_at_a_cost(images):
    model = wide()
    inputs = torch.randn(8, 20)
    recipe = sc.Recipe(structure=Channels(), score=sc.scores.Magnitude(2), schedule=sc.schedules.CubicGradual(every=2))
    before = sum(p.numel() for p in model.parameters())
    pruner = sc.Pruner(model, recipe, total_steps=6, params=0.5, example=inputs)
    for _ in range(6):
        pruner.step()
    pruner.finalize()
    assert sum(p.numel() for p in model.parameters()) / before == pytest.approx(0.5, rel=0.01)


def test_schedules_that_bring_weights_back_are_refused(model, images):
    task = sc.tasks.builtin_task("digits")
    with pytest.raises(sc.RecipeError, match="what is cut out is gone"):
        sc.prune(task.model(), "imp", structure="channels", sparsity=0.5, task=task)


def test_a_cut_that_is_not_proven_is_undone(model, images, monkeypatch):
    from secateur.graph import proof

    dense, tensors = model(images), [id(p) for p in model.parameters()]
    monkeypatch.setattr(proof, "masked_outputs", lambda *a, **k: [torch.zeros(4, 10)])
    monkeypatch.setattr(proof, "masked_decisions", lambda *a, **k: ([torch.zeros(4, 10)], {}))
    with pytest.raises(sc.NumericsError, match="it is as it was"):
        sc.prune(model, "magnitude", structure="channels", sparsity=0.5, example=images)
    assert [id(p) for p in model.parameters()] == tensors
    assert torch.equal(model(images), dense)


def test_a_saved_cut_model_loads_without_its_dense_weights(images, tmp_path):
    model = wide()
    result = sc.prune(model, "magnitude", structure="channels", sparsity=0.5, example=torch.randn(2, 20))
    loaded = sc.load(result.save(tmp_path / "cut"))
    x = torch.randn(3, 20)
    assert torch.equal(loaded(x), model.eval()(x))
    assert sc.load_keep(tmp_path / "cut") == result.keep


def test_a_class_of_the_users_own_loads_through_its_factory(model, images, tmp_path):
    result = sc.prune(model, "magnitude", structure="channels", sparsity=0.5, example=images)
    loaded = sc.load(result.save(tmp_path / "cut"), factory=Block)
    assert torch.equal(loaded(images), model.eval()(images))


def test_the_measures_tell_what_is_saved(model, images):
    result = sc.prune(model, "magnitude", structure="channels", sparsity=0.5, example=images)
    assert result.after["params"] == sum(p.numel() for p in model.parameters()) < result.before["params"]
    assert result.after["macs"] < 0.4 * result.before["macs"]


def test_scores_of_gradients_choose_channels_too():
    task = sc.tasks.builtin_task("digits")
    recipe = sc.Recipe(structure=Channels(), score=sc.scores.Taylor(), budget=sc.budgets.Global())
    result = sc.prune(task.model(), recipe, macs=0.5, task=task, batches=2)
    assert result.after["macs"] / result.before["macs"] == pytest.approx(0.5, rel=0.05)


def test_a_target_knows_its_cost():
    assert Target(0.5, "macs").cost == "macs"


def test_moments_of_a_tied_weight_are_cut_whichever_of_its_names_is_cut(images):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(5, 6), nn.Linear(6, 2)
            self.twin = self.first

        def forward(self, x):
            return self.second(self.first(x))

    model, x = Twice(), torch.randn(2, 5)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    model(x).sum().backward()
    optimizer.step()
    seeing(x).apply_(model, Choice(Keep({"first": torch.arange(6) > 1})))
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
    assert optimizer.state[model.first.weight]["exp_avg"].shape == (4, 5) and model.twin.weight is model.first.weight


def test_attention_is_groups_of_heads_where_they_share_keys_and_heads_elsewhere():
    transformers = pytest.importorskip("transformers")
    ids = torch.arange(3, 15)[None]
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 8}
    for shared, kinds in ((8, {"heads"}), (4, {"kv-groups"}), (1, {"heads"})):
        config = transformers.LlamaConfig(num_key_value_heads=shared, vocab_size=60, **sizes)
        space = Channels(kinds=("attention",)).find(transformers.LlamaForCausalLM(config).eval(), ids)
        assert {g.kind for g in space} == kinds, shared
