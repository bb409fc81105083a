"""Recipes: one answer to each question."""

import json

import pytest

import secateur as sc
from secateur.core import BudgetError, Group, RecipeError, Space, Target, check_counts, fit_count, part_name


def test_a_recipe_scores_or_solves():
    with pytest.raises(RecipeError, match="neither a score nor a solver"):
        sc.Recipe(structure=sc.structures.Weights())


def test_a_recipe_does_not_do_both():
    with pytest.raises(RecipeError, match="both a score and a solver"):
        sc.Recipe(structure=sc.structures.Weights(), score=sc.scores.Magnitude(), solve=sc.scores.Magnitude())


def test_a_recipe_is_plain_json_in_the_words_of_yaml():
    recipe = sc.Recipe(
        structure=sc.structures.NM(2, 4),
        score=sc.scores.Taylor(),
        budget=sc.budgets.WithFloor(sc.budgets.Global(), 0.1),
        recovery=[sc.recovery.FineTune(epochs=2)],
    )
    data = json.loads(json.dumps(recipe.to_json()))
    assert data["structure"]["nm"]["n"] == 2
    assert data["budget"] == {"with-floor": {"budget": {"global": {"floor": 0}}, "keep": 0.1}}
    assert data["recovery"][0]["fine-tune"]["epochs"] == 2


@pytest.mark.parametrize("cls", [sc.schedules.CubicGradual, sc.structures.NM, sc.budgets.ERK])
def test_parts_are_named_in_lower_case_with_hyphens(cls):
    assert part_name(cls) == {"CubicGradual": "cubic-gradual", "NM": "nm", "ERK": "erk"}[cls.__name__]


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(sparsity):
    with pytest.raises(RecipeError, match=r"\[0, 1\)"):
        Target(sparsity)


@pytest.mark.parametrize(
    "group, wanted, stays",
    [
        (Group("a", (10,)), 7, 7),
        (Group("a", (10,)), 99, 10),
        (Group("a", (10,), floor=4), 1, 4),
        (Group("a", (4, 4), lanes=4, exact=2), 4, 2),
        (Group("a", (32,), multiple=8), 13, 16),
        (Group("a", (32,), multiple=8), 1, 8),
    ],
    ids=["as wanted", "size", "floor", "exact", "multiple", "never an empty multiple"],
)
def test_a_wanted_count_is_made_legal(group, wanted, stays):
    assert fit_count(group, wanted) == stays


@pytest.mark.parametrize(
    "group, stays",
    [
        (Group("a", (10,), floor=4), 3),
        (Group("a", (10,)), 11),
        (Group("a", (4, 4), lanes=4, exact=2), 1),
        (Group("a", (32,), multiple=8), 12),
    ],
    ids=["floor", "size", "exact", "multiple"],
)
def test_a_count_that_breaks_a_rule_names_the_group(group, stays):
    with pytest.raises(BudgetError, match=rf"(?s){stays} units would stay.*MyBudget, group 'a'"):
        check_counts(Space((group,)), {"a": stays}, "MyBudget")


def test_a_group_without_a_count_is_refused():
    with pytest.raises(BudgetError, match="group 'b'"):
        check_counts(Space((Group("a", (1,)), Group("b", (1,)))), {"a": 1}, "MyBudget")
