"""Arguments at the door: names and types of a method's settings or a part's fields, checked by pydantic."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from .errors import RecipeError, nearest


def validated(build: Callable[..., Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The given arguments, converted to the types of `build`'s signature.

    Args:
        build: a method's function or a part's class.
        given: arguments by name, from Python, YAML (already plain data) or the command line (strings).
        where: for the error message.

    Raises:
        RecipeError: an unknown name (the nearest is suggested), a wrong type, or a missing argument.
    """
    parameters = inspect.signature(build).parameters
    checked = {name: check_setting(build, name, value, where) for name, value in given.items()}
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in given]
    if missing:
        raise RecipeError(f"the setting {missing[0]!r} is missing", where=where, mend=f"add {missing[0]}=...")
    return checked


def check_setting(build: Callable[..., Any], name: str, value: Any, where: str) -> Any:
    """One setting, converted to its type in `build`'s signature; errors as of `validated`."""
    from pydantic import TypeAdapter, ValidationError

    parameters = inspect.signature(build).parameters
    if name not in parameters:
        mend = nearest(name, parameters) if parameters else "it takes no settings"
        raise RecipeError(f"there is no setting {name!r}", where=where, mend=mend)
    hint = get_type_hints(build.__init__ if inspect.isclass(build) else build).get(name, Any)
    try:
        return TypeAdapter(_plain(hint)).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecipeError(
            f"{name}={value!r} does not fit: {first['msg'].lower()}", where=where, mend=f"its type is {_pretty(hint)}"
        ) from error


def _plain(hint: Any) -> Any:
    """The type to validate against: protocols of ours are objects that were built already."""
    return Any if getattr(hint, "_is_protocol", False) else hint


def _pretty(hint: Any) -> str:
    return inspect.formatannotation(hint).replace("typing.", "")
