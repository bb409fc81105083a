"""Bad input: one clear error (what, where, how to mend), and what was there before is still there and whole."""

import copy

import pytest
import torch
from torch import nn

import secateur as sc


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def unchanged(model, before):
    return all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_model_without_matrices_lists_the_module_types_it_has():
    with pytest.raises(sc.SubjectError, match="BatchNorm1d"):
        sc.prune(nn.Sequential(nn.BatchNorm1d(3)), "magnitude", sparsity=0.5)


def test_excluding_everything_says_so(model):
    with pytest.raises(sc.SubjectError, match="nothing to prune"):
        sc.prune(model, "magnitude", sparsity=0.5, exclude=("*",))


def test_a_group_that_would_be_emptied_is_an_error_that_names_it(model):
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        before["0.weight"].copy_(model[0].weight.mul_(1e-3))
    with pytest.raises(sc.BudgetError, match=r"layer collapse in 0\.weight"):
        sc.prune(model, "global-mp", sparsity=0.8, threshold=0.0)
    assert unchanged(model, before)


def test_collapse_is_allowed_on_request(model):
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
    recipe = sc.Recipe(
        structure=sc.structures.Weights(),
        score=sc.scores.Magnitude(),
        budget=sc.budgets.Global(),
        allow_collapse=True,
    )
    assert sc.prune(model, recipe, sparsity=0.8).sparsity["collapsed"] == ["0.weight"]


def test_nan_scores_name_the_layer_and_the_score(model):
    recipe = sc.Recipe(
        structure=sc.structures.Weights(),
        score=sc.scores.Custom(lambda w: w / 0 if w.shape[0] == 3 else w.abs()),
    )
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(sc.NumericsError, match=r"Custom on group '2\.weight'"):
        sc.prune(model, recipe, sparsity=0.5)
    assert unchanged(model, before)


def test_an_empty_loader_is_named_with_its_count(model):
    task = sc.Task(train=[], test=[(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))])
    recipe = sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Taylor())
    with pytest.raises(sc.RecipeError, match="0 samples were read"):
        sc.prune(model, recipe, sparsity=0.5, task=task)


def test_a_score_that_needs_data_asks_for_a_task(model):
    recipe = sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Taylor())
    with pytest.raises(sc.RecipeError, match="there is no task"):
        sc.prune(model, recipe, sparsity=0.5)


def test_a_frozen_parameter_is_named_when_gradients_are_needed(model):
    model[2].weight.requires_grad_(False)
    data = [(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))]
    recipe = sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Taylor())
    with pytest.raises(sc.SubjectError, match=r"'2\.weight'"):
        sc.prune(model, recipe, sparsity=0.5, task=sc.Task(train=data, test=data))


def test_a_misspelt_setting_suggests_the_right_one(model):
    with pytest.raises(sc.RecipeError, match="did you mean 'threshold'"):
        sc.prune(model, "global-mp", sparsity=0.5, treshold=0.1)


def test_no_target_at_all_says_how_to_give_one(model):
    with pytest.raises(sc.RecipeError, match="no target is given"):
        sc.prune(model, "magnitude")


def test_sparsity_and_keep_together_are_refused(model):
    with pytest.raises(sc.RecipeError, match="both sparsity and keep"):
        sc.prune(model, "magnitude", sparsity=0.5, keep=0.5)


def test_a_sparsity_that_contradicts_the_pattern_is_refused(model):
    with pytest.raises(sc.RecipeError, match=r"removes 0\.5"):
        sc.prune(model, "magnitude", structure="1:2", sparsity=0.9)


def test_a_loss_that_is_not_finite_stops_training_with_its_step(model):
    data = [(torch.full((4, 6), float("inf")), torch.zeros(4, dtype=torch.long))]
    with pytest.raises(sc.NumericsError, match="step 0"):
        sc.prune(model, "magnitude", sparsity=0.5, epochs=1, task=sc.Task(train=data, test=data))


def test_a_recipe_needs_a_score_or_a_solver():
    with pytest.raises(sc.RecipeError, match="neither a score nor a solver"):
        sc.Recipe(structure=sc.structures.Weights())


def test_a_schedule_that_outlives_the_training_is_refused(model):
    with pytest.raises(sc.RecipeError, match="beyond the training"):
        sc.Pruner(model, "gmp", total_steps=100, sparsity=0.5)
        sc.Pruner(model, sc.core.registry.get("gmp").recipe(end=200), total_steps=100, sparsity=0.5)


def test_finalizing_too_early_says_how_far_it_came(model):
    pruner = sc.Pruner(model, "gmp", total_steps=100, sparsity=0.9)
    for _ in range(10):
        pruner.step()
    with pytest.raises(sc.RecipeError, match="step 10 of 100"):
        pruner.finalize()


def test_a_rewinding_recipe_needs_the_engines_loop(model):
    pruner = sc.Pruner(model, "imp", total_steps=1000, sparsity=0.5)
    with pytest.raises(sc.RecipeError, match="rewinds the weights"):
        for _ in range(1000):
            pruner.step()


def test_a_missing_extra_names_what_to_install():
    from secateur.core import require

    with pytest.raises(sc.MissingExtra, match=r'pip install "secateur\[vision\]"'):
        require("no_such_package_here", extra="vision", where="test")


def test_a_teacher_without_training_is_refused(model):
    data = [(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))]
    recipe = sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Magnitude(), recovery=[sc.recovery.Distill()])
    with pytest.raises(sc.RecipeError, match="Distill acts on training steps"):
        sc.prune(model, recipe, sparsity=0.5, task=sc.Task(train=data, test=data))


def test_any_failure_of_a_cell_is_a_row(tmp_path, model):
    def breaks(model, batch):
        raise RuntimeError("the disk of the user is full")

    data = [(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))]
    task = sc.Task(train=data, test=data, call=breaks)
    found = sc.compare(model, ["magnitude"], sparsity=0.5, task=task, seeds=1, folder=tmp_path)
    assert [r["error"] for r in found.failed][:1] == ["RuntimeError: the disk of the user is full"]


def test_a_failed_run_leaves_no_hook_on_later_optimizers(model):
    from torch.optim.optimizer import _global_optimizer_post_hooks

    before = len(_global_optimizer_post_hooks)
    data = [(torch.full((4, 6), float("inf")), torch.zeros(4, dtype=torch.long))]
    with pytest.raises(sc.NumericsError):
        sc.prune(model, "magnitude", sparsity=0.5, epochs=1, task=sc.Task(train=data, test=data))
    assert len(_global_optimizer_post_hooks) == before


def test_finalizing_does_not_mistake_rounding_for_an_unfinished_schedule():
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(10)))
    pruner = sc.Pruner(model, "magnitude", total_steps=1, sparsity=0.6)  # 5.4 of 9: five go, below 0.6
    assert pruner.finalize().sparsity == pytest.approx(5 / 9)


def test_a_structure_that_finds_no_group_says_so(model):
    class Finds(sc.structures.Weights):
        def find(self, subject):
            return sc.core.Space(())

    with pytest.raises(sc.SubjectError, match="found no group"):
        sc.prune(model, sc.Recipe(structure=Finds(), score=sc.scores.Magnitude()), sparsity=0.5)
