"""Names with settings as text: what is printed can be typed back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import RecipeError, read_call, spell_call, split_outside

names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
keys = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
scalars = st.one_of(
    st.integers(-1000, 1000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
    st.text("a*.,(=[:# \"'é", max_size=6),
)
settings = st.dictionaries(keys, st.one_of(scalars, st.lists(scalars, max_size=3)), max_size=3)


@given(names, settings)
def test_reading_inverts_spelling(name, given_settings):
    assert read_call(spell_call(name, given_settings)) == (name, given_settings)


@given(st.lists(st.tuples(names, settings), min_size=1, max_size=4))
def test_a_list_of_calls_splits_at_its_own_commas_only(calls):
    texts = [spell_call(*call) for call in calls]
    assert split_outside(", ".join(texts), ",") == texts


def test_a_pattern_is_a_string():
    assert read_call("magnitude(include=*.fc)") == ("magnitude", {"include": "*.fc"})


@pytest.mark.parametrize("text", ["a(b", "a)b", "a(b]", '"a'])
def test_an_unclosed_bracket_is_named(text):
    with pytest.raises(RecipeError, match=r"closes nothing|is missing"):
        split_outside(text, ",")


@pytest.mark.parametrize("text", ["gmp(end)", "gmp(=1)", "(end=1)", "gmp(end=1)x"])
def test_what_is_no_call_is_refused(text):
    with pytest.raises(RecipeError, match="is no"):
        read_call(text)
