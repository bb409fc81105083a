"""Errors answer what, where and how to mend."""

import pytest

from secateur.core import MissingExtra, RecipeError, SecateurError, nearest, require


def test_the_message_has_three_answers():
    error = RecipeError("p is 2", where="Quill(p=...)", mend="p lies in (0, 1]")
    assert str(error) == "p is 2\n  where: Quill(p=...)\n  mend:  p lies in (0, 1]"


def test_a_recipe_error_is_caught_as_a_value_error_and_as_ours():
    assert issubclass(RecipeError, ValueError) and issubclass(RecipeError, SecateurError)


def test_nearest_ignores_case():
    assert nearest("GMP", ["gmp", "lamp"]) == "did you mean 'gmp'?"


def test_a_missing_extra_says_what_to_install():
    with pytest.raises(MissingExtra, match=r'pip install "secateur\[llm\]"'):
        require("no_such_package", extra="llm", where="here")
