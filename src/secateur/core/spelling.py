"""Names with settings as one text: `gmp(end=0.6)`, `fine-tune+distill`. What tables print can be typed back.

Values are YAML, so numbers, words and `[lists]` are written as everywhere else.
"""

import json
from collections.abc import Mapping
from typing import Any

from .errors import RecipeError

_PAIRS = {"(": ")", "[": "]", "{": "}"}


def split_outside(text: str, separator: str) -> list[str]:
    """The stripped parts of a text between separators outside of brackets and quotes; empty parts are left out.

    Raises:
        RecipeError: a bracket is not closed, or closed twice.
    """
    parts, open_brackets, start, quoted = [], [], 0, False
    for i, letter in enumerate(text):
        if letter == '"' and text[i - 1 : i] != "\\":
            quoted = not quoted
        if quoted:
            continue
        if letter in _PAIRS:
            open_brackets.append(_PAIRS[letter])
        elif letter in _PAIRS.values():
            if not open_brackets or open_brackets.pop() != letter:
                raise RecipeError(f"{letter!r} closes nothing in {text!r}", where="a list", mend="name(key=value)")
        elif letter == separator and not open_brackets:
            parts.append(text[start:i])
            start = i + 1
    if open_brackets or quoted:
        missing = open_brackets[-1] if open_brackets else '"'
        raise RecipeError(f"a {missing!r} is missing in {text!r}", where="a list", mend="write name(key=value)")
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]


def read_call(text: str) -> tuple[str, dict[str, Any]]:
    """`"gmp(end=0.6)"` as `("gmp", {"end": 0.6})`; a bare name has no settings. Raises `RecipeError`."""
    import yaml

    name, bracket, rest = text.strip().partition("(")
    if not bracket:
        return name, {}
    if not rest.endswith(")") or not name:
        raise RecipeError(f"{text!r} is no name with settings", where="a list", mend="write name(key=value)")
    settings: dict[str, Any] = {}
    for item in split_outside(rest[:-1], ","):
        key, sign, value = item.partition("=")
        if not sign or not key.strip():
            raise RecipeError(f"{item!r} is no setting", where=text, mend="write name(key=value, key=value)")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            settings[key.strip()] = value.strip()  # a pattern such as *.fc is a string, not an alias
    return name.strip(), settings


def spell_call(name: str, settings: Mapping[str, Any]) -> str:
    """The inverse of `read_call`, for plain settings."""
    if not settings:
        return name
    return f"{name}({', '.join(f'{key}={_spell(value)}' for key, value in settings.items())})"


def _spell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_spell, value))}]"
    import yaml

    if isinstance(value, str):
        try:
            plain = yaml.safe_load(value) == value and not set(value) & set("()[]{},=:#\"'")
        except yaml.YAMLError:
            plain = False
        return value if plain else json.dumps(value)
    told = json.dumps(value)
    if isinstance(value, float) and "." not in told:  # YAML reads 1e-09 as a word and 1.0e-09 as a number
        return told.replace("e", ".0e")
    return told
