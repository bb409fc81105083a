"""Arguments at the door: every mistake says how to mend it."""

from dataclasses import dataclass
from typing import Literal

import pytest

from secateur.core import RecipeError, registry, validated


@dataclass(frozen=True)
class Part:
    share: float
    rounds: int = 3
    per: Literal["group", "row"] = "group"
    names: tuple[str, ...] = ()


def test_an_unknown_setting_suggests_the_nearest():
    with pytest.raises(RecipeError, match=r"(?s)no setting 'shares'.*did you mean 'share'"):
        validated(Part, {"shares": 0.5}, where="Part")


def test_a_setting_of_a_part_that_takes_none_says_so():
    with pytest.raises(RecipeError, match="it takes no settings"):
        validated(lambda: None, {"p": 1}, where="part")


def test_a_missing_setting_is_named():
    with pytest.raises(RecipeError, match="'share' is missing"):
        validated(Part, {"rounds": 1}, where="Part")


@pytest.mark.parametrize(
    "given, kind",
    [({"share": "much"}, "float"), ({"share": 0.1, "rounds": 2.5}, "int"), ({"share": 0.1, "per": "col"}, "row")],
    ids=["float", "int", "literal"],
)
def test_a_value_of_the_wrong_type_names_the_setting_and_its_type(given, kind):
    name, value = list(given.items())[-1]
    with pytest.raises(RecipeError, match=rf"(?s){name}={value!r} does not fit.*{kind}"):
        validated(Part, given, where="Part")


def test_the_error_says_where():
    with pytest.raises(RecipeError, match=r"where: recipe\.yaml, key 'part'"):
        validated(Part, {"share": None}, where="recipe.yaml, key 'part'")


def test_plain_data_of_yaml_and_the_command_line_becomes_the_annotated_types():
    given = {"share": "0.5", "rounds": "2", "names": ["a", "b"]}
    assert validated(Part, given, where="Part") == {"share": 0.5, "rounds": 2, "names": ("a", "b")}


def test_settings_that_were_not_given_are_left_to_the_defaults():
    assert validated(Part, {"share": 0.5}, where="Part") == {"share": 0.5}


def test_a_methods_unknown_setting_names_the_method():
    with pytest.raises(RecipeError, match=r"(?s)no setting 'epoch'.*method 'gmp'.*'epochs'"):
        registry.get("gmp").recipe(epoch=3)
