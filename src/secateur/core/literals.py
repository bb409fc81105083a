"""Decorator arguments read off the syntax tree: what is listed is never run."""

import ast
from collections.abc import Callable, Mapping
from enum import EnumMeta
from typing import Any

from .errors import RecipeError


def called_name(call: ast.expr) -> str:
    """`Paper` of `Paper(...)` and of `core.Paper(...)`, `When` of `When.AFTER`."""
    node = call.func if isinstance(call, ast.Call) else call.value if isinstance(call, ast.Attribute) else call
    return ast.unparse(node).split(".")[-1]


def read_literal(node: ast.expr, where: str, makers: Mapping[str, Callable[..., Any]]) -> Any:
    """The value of a literal, or of a call or an enum member of one of the known names with literal arguments.

    Args:
        node: the argument's expression.
        where: file and line, for the error.
        makers: what may be called, or looked into, by name.

    Raises:
        RecipeError: it is anything else.
    """
    if isinstance(node, ast.Call) and called_name(node) in makers:
        named = {k.arg or "": read_literal(k.value, where, makers) for k in node.keywords}
        return makers[called_name(node)](*(read_literal(a, where, makers) for a in node.args), **named)
    if isinstance(node, ast.Attribute) and isinstance(enum := makers.get(called_name(node)), EnumMeta):
        return enum[node.attr]
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise RecipeError(
            f"{ast.unparse(node)!r} is not a literal",
            where=where,
            mend="write the decorator's arguments as literals: they are listed without running them",
        ) from error
