"""`--set key=value`: a method's settings on the command line."""

from collections.abc import Sequence
from typing import Any

from secateur.core.errors import RecipeError


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """`["end=0.5", "include=a,b"]` as plain data: values are read as YAML, a comma makes a list.

    Raises:
        RecipeError: there is no `=`.
    """
    import yaml

    settings: dict[str, Any] = {}
    for item in given:
        key, sign, value = item.partition("=")
        if not sign or not key:
            raise RecipeError(f"{item!r} is no setting", where="--set", mend="write --set key=value")
        try:
            plain = yaml.safe_load(value)
        except yaml.YAMLError:
            plain = value  # a pattern such as *.fc is a string, not an alias
        if isinstance(plain, str) and "," in plain:
            plain = plain.split(",")
        settings[key.strip()] = plain
    for key in settings.keys() & {"include", "exclude"}:
        given_patterns = settings[key] if isinstance(settings[key], list) else [settings[key]]
        settings[key] = [str(pattern) for pattern in given_patterns]
    return settings
