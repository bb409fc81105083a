"""Block descent on whole models: counts, original values, and a loss that falls."""

import copy

import pytest
import torch
from torch import nn

import secateur as sc
from secateur.budgets import Uniform
from secateur.core import Keep, Recipe, RecipeError, Refine, Stats
from secateur.scores import Magnitude
from secateur.solvers import OBC
from secateur.solvers.refining import BlockDescent
from secateur.structures import NM, Weights
from secateur.tasks.digits import digits_flat


def problem(seed=0):
    """A linear regression with correlated inputs: its loss is quadratic, and second order is exact."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(64, 8, generator=g) @ torch.randn(8, 8, generator=g)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 4, bias=False))
    batch = (x, model(x).detach())
    loss = lambda outputs, batch: (outputs - batch[1]).square().sum(1).mean()  # noqa: E731
    return model, sc.Task(train=[batch], test=[batch], loss=loss, metrics={}, lower_is_better=frozenset({"loss"}))


def refine(descent, structure=Weights(), sparsity=0.5, seed=0, score=Magnitude(), **more):
    model, task = problem(seed)
    dense = copy.deepcopy(model)
    first = sc.prune(copy.deepcopy(model), Recipe(structure, score), sparsity=sparsity, task=task)
    recipe = Recipe(structure, score, budget=Uniform(), refine=descent, **more)
    return dense, first, sc.prune(model, recipe, sparsity=sparsity, task=task, seed=seed)


@pytest.mark.parametrize("curvature", ["gradient_per_sample", "gradient_mean", "exact", "exact_piecewise"])
@pytest.mark.parametrize("choose", ["score", "gradient", "random"])
def test_every_layer_keeps_its_count_and_what_stays_has_its_original_value(curvature, choose):
    descent = BlockDescent(steps=5, block=8, curvature=curvature, choose=choose, piece=3, tabu=0.3)
    dense, first, result = refine(descent)
    assert result.keep.counts == first.keep.counts
    weight, keep = result.subject[0].weight, result.keep["0.weight"]
    assert torch.equal(weight, dense[0].weight * keep)


@pytest.mark.parametrize("seed", range(5))
def test_where_second_order_is_exact_the_loss_never_rises_and_ends_below_the_starts(seed):
    descent = BlockDescent(steps=25, block=12, curvature="exact")
    _, first, result = refine(descent, seed=seed)
    assert result.metrics["loss"] < first.metrics["loss"]
    assert result.history[0]["refined"]["loss_after"] == pytest.approx(result.metrics["loss"], rel=1e-5)
    assert result.history[0]["refined"]["loss_before"] == pytest.approx(first.metrics["loss"], rel=1e-5)


@pytest.mark.parametrize("structure", [NM(2, 4), NM(1, 4), NM(4, 8)])
def test_in_patterns_places_are_changed_within_groups(structure):
    _, first, result = refine(BlockDescent(steps=25, block=12, curvature="exact"), structure, None)
    keep = result.keep["0.weight"]
    assert (keep.reshape(-1, structure.m).sum(1) == structure.n).all()
    assert result.metrics["loss"] < first.metrics["loss"] and result.keep != first.keep


def test_a_block_of_all_weights_solves_the_whole_problem():
    from itertools import combinations

    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=g) @ torch.randn(6, 6, generator=g)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 1, bias=False))
    w, y = model[0].weight.detach().clone()[0], model(x).detach()
    task = sc.Task(train=[(x, y)], test=[(x, y)], loss=lambda o, b: (o - b[1]).square().mean(), metrics={})
    descent = BlockDescent(steps=1, block=6, pruned=3, curvature="exact")
    result = sc.prune(model, Recipe(Weights(), Magnitude(), refine=descent), sparsity=0.5, task=task)

    def lost(gone):
        return float((x[:, gone] @ w[list(gone)]).square().mean())

    best = min(combinations(range(6), 3), key=lost)
    assert (~result.keep["0.weight"][0]).nonzero().flatten().tolist() == list(best)


def test_zero_weights_go_for_free():
    model, task = problem()
    with torch.no_grad():
        model[0].weight[:, 0] = 0
    space = Weights().find(model)
    keep = torch.ones(4, 8, dtype=torch.bool)
    keep[:, 4:] = False
    descent = BlockDescent(steps=6, block=32, curvature="exact", free_zeros=True)
    found, facts = descent(model, space, Keep({"0.weight": keep}), Stats(), task, task.train)
    assert not found["0.weight"][:, 0].any() and found.counts == {"0.weight": 16}
    assert facts["loss_after"] < facts["loss_before"]


def test_the_model_is_as_it_was_while_the_keep_is_refined():
    model, task = problem()
    model.train()
    before = copy.deepcopy(model.state_dict())
    keep = Keep({"0.weight": model[0].weight.detach().abs() > 0.1})
    BlockDescent(steps=3, block=8)(model, Weights().find(model), keep, Stats(), task, task.train)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert model.training and model[0].weight.requires_grad and model[0].weight.grad is None


def test_what_went_in_an_earlier_move_stays_gone():
    descent = BlockDescent(steps=10, block=16)
    _, _, result = refine(descent, sparsity=0.6, schedule=sc.schedules.Iterative(rounds=3))
    assert result.sparsity["sparsity"] == pytest.approx(0.6, abs=0.02)
    assert (result.subject[0].weight != 0).sum() == result.keep["0.weight"].sum()


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
@pytest.mark.parametrize("propagation", ["whole", "pruned"])
def test_it_improves_what_any_method_chose(method, propagation):
    from dataclasses import replace

    from secateur.engine.methods import as_recipe

    model, task = problem()
    dense = copy.deepcopy(model)
    plain = as_recipe(method, propagation=propagation)
    descent = replace(plain, refine=BlockDescent(steps=25, block=12, curvature="exact"))
    first = sc.prune(copy.deepcopy(model), plain, sparsity=0.5, task=task)
    result = sc.prune(model, descent, sparsity=0.5, task=task)
    assert result.keep.counts == first.keep.counts
    assert result.metrics["loss"] <= first.metrics["loss"] * (1 + 1e-6)
    back = result.keep["0.weight"] & ~first.keep["0.weight"]
    assert torch.equal(result.subject[0].weight[back], dense[0].weight[back])
    stayed = result.keep["0.weight"] & first.keep["0.weight"]
    assert torch.equal(result.subject[0].weight[stayed], first.subject[0].weight[stayed])


def test_layers_may_be_drawn_by_the_logarithm_of_their_size():
    from secateur.core import Group, Site

    groups = [Group(str(n), (1, n), site=Site(str(n), torch.zeros(1, n))) for n in (10, 1000, 100_000)]
    order = BlockDescent(steps=300, layers="log-size")._order(groups, torch.Generator().manual_seed(0))
    counts = [sum(g is group for g in order) for group in groups]
    assert sum(counts) == 300 and counts[0] < counts[1] < counts[2]
    assert counts[2] - 10 == pytest.approx(270 * 11.51 / (2.4 + 6.91 + 11.51), abs=2)


def test_on_digits_it_lowers_the_loss_of_a_magnitude_mask():
    task = digits_flat()
    dense = sc.prune(task.model(), "magnitude", sparsity=0.0, heal=4, task=task).subject
    first = sc.prune(copy.deepcopy(dense), "magnitude", sparsity=0.95, task=task)
    result = sc.prune(dense, "icbs", sparsity=0.95, steps=20, task=task)
    assert result.keep.counts == first.keep.counts
    assert result.history[0]["refined"]["loss_after"] < result.history[0]["refined"]["loss_before"]


def test_scores_are_missed_where_a_solver_chose():
    model, task = problem()
    recipe = Recipe(Weights(), solve=OBC(), refine=BlockDescent(choose="score", steps=2))
    with pytest.raises(RecipeError, match='choose="gradient" or "random"'):
        sc.prune(model, recipe, sparsity=0.5, task=task)


def test_blocks_cuts_and_missing_tasks_are_refused():
    model, task = problem()
    recipe = Recipe(Weights(), Magnitude(), refine=BlockDescent(steps=2))
    with pytest.raises(RecipeError, match="there is no task"):
        sc.prune(model, recipe, sparsity=0.5)
    with pytest.raises(RecipeError, match="exchanges single weights"):
        sc.prune(model, recipe, structure="2x2", sparsity=0.5, task=task)
    with pytest.raises(RecipeError, match="what is cut out is gone"):
        two = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
        sc.prune(two, recipe, structure="channels", sparsity=0.5, task=task)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"block": 1}, {"tabu": 1.0}, {"ridge": -1.0}, {"restarts": 0}, {"pruned": 128}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(RecipeError):
        BlockDescent(**wrong)


def test_a_refinement_that_changes_counts_is_refused():
    class Greedy(Refine):
        def __call__(self, model, space, keep, stats, task, batches):
            return Keep.all(space), {}

    model, task = problem()
    with pytest.raises(RecipeError, match="changed how many units stay"):
        sc.prune(model, Recipe(Weights(), Magnitude(), refine=Greedy()), sparsity=0.5, task=task)


def test_nothing_to_exchange_is_no_error():
    _, _, result = refine(BlockDescent(steps=2), sparsity=0.0)
    assert result.history[0]["refined"] == {"steps": 0}


def test_a_recipe_file_may_name_it(tmp_path):
    from secateur.engine.recipe_file import read_recipe

    text = "model: builtin:digits-mlp\nsparsity: 0.9\nrecipe:\n  structure: weights\n  score: magnitude\n"
    (tmp_path / "r.yaml").write_text(text + "  refine:\n    block-descent: {steps: 7, choose: random}\n")
    assert read_recipe(tmp_path / "r.yaml").method.refine == BlockDescent(steps=7, choose="random")
    (tmp_path / "r.yaml").write_text(text + "  refine: block-decent\n")
    with pytest.raises(RecipeError, match="block-descent"):
        read_recipe(tmp_path / "r.yaml")


def test_from_disk_to_disk_there_is_no_loss_to_ask(tmp_path):
    _, task = problem()
    recipe = Recipe(Weights(), Magnitude(), refine=BlockDescent(steps=2))
    with pytest.raises(RecipeError, match="asks the loss of the whole model"):
        sc.prune_folder(tmp_path, recipe, tmp_path / "out", task=task, sparsity=0.5)


def test_masks_on_the_way_of_training_are_refined_too():
    task = digits_flat()
    result = sc.prune(
        task.model(),
        Recipe(Weights(), Magnitude(), schedule=sc.schedules.Iterative(rounds=2), refine=BlockDescent(steps=3)),
        sparsity=0.8,
        heal=0.1,
        task=task,
        recovery="fine-tune",
    )
    assert result.sparsity["sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert [move["refined"]["steps"] for move in result.history] == [3, 3]
    weights = dict(result.subject.named_parameters())
    assert all(not weights[name][~mask].any() for name, mask in result.masks.items())


def test_layers_that_the_loss_does_not_depend_on_are_named(caplog):
    model, task = problem()
    model.spare = nn.Linear(8, 4)
    model.forward = lambda x: model[0](x)
    result = sc.prune(model, "icbs", sparsity=0.5, steps=4, task=task)
    assert "the loss does not depend on spare.weight" in caplog.text
    assert result.keep.counts == {"0.weight": 16, "spare.weight": 16}
