"""The registry: filled by the `@method` decorator alone, and readable without importing torch.

To *list* methods their files are parsed, not run: the decorator's arguments and the function's signature are read off
the syntax tree. To *use* one its module is imported and the decorator registers the function. A test holds the two
readings equal. Third parties add modules through the entry-point group `secateur.methods`.
"""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from .errors import RecipeError, nearest
from .literals import called_name, read_literal

GROUP = "secateur.methods"

_log = logging.getLogger(__name__)


class When(Enum):
    """When a method prunes, relative to training."""

    BEFORE = "before"
    DURING = "during"
    AFTER = "after"
    RUNTIME = "runtime"


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class Parameter:
    """One setting of a method: name, annotation and default, as source text."""

    name: str
    type: str
    default: str


@dataclass(frozen=True)
class Entry:
    """What the registry knows of a method without running it; the CLI, the docs card and tables come from it."""

    id: str
    paper: Paper
    summary: str
    structure: str
    when: When
    data: str
    models: tuple[str, ...]
    start: str
    parameters: tuple[Parameter, ...]
    module: str

    def to_json(self) -> dict[str, object]:
        """Plain data, flat where scripts want it."""
        return {
            "id": self.id,
            "title": self.paper.title,
            "authors": self.paper.authors,
            "year": self.paper.year,
            "paper": self.paper.url,
            "summary": self.summary,
            "prunes": self.structure,
            "when": self.when.value,
            "data": self.data,
            "models": list(self.models),
            "start": self.start,
            "parameters": [asdict(p) for p in self.parameters],
        }


@dataclass(frozen=True)
class Method:
    """A registered method: its entry, and the function that turns settings into a `Recipe` or a `Procedure`."""

    entry: Entry
    build: Callable[..., Any]

    def recipe(self, **settings: Any) -> Any:
        """The recipe for these settings. An unknown name or a wrong type is a `RecipeError`."""
        from .validate import validated

        return self.build(**validated(self.build, settings, where=f"method {self.entry.id!r}"))


_loaded: dict[str, Method] = {}


def method(
    id: str,
    *,
    paper: Paper,
    structure: str,
    when: When,
    data: str,
    models: Sequence[str],
    start: str = "trained",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function, whose signature is the method's whole configuration, as a method.

    The arguments must be literals (and `Paper(...)`, `When.X`), because the list of methods is read without running.

    Args:
        id: lower case with hyphens, the name that people search for.
        paper: where it comes from.
        structure: what it prunes, in words.
        when: before, during or after training.
        data: what data it needs, in words.
        models: kinds of model it is made for.
        start: "trained" if it wants a trained subject, "init" if it trains from the initialisation itself.
    """

    def register(build: Callable[..., Any]) -> Callable[..., Any]:
        summary = (inspect.getdoc(build) or "").partition("\n")[0]
        entry = Entry(
            id, paper, summary, structure, when, data, tuple(models), start, _parameters(build), build.__module__
        )
        other = _loaded.get(id)
        if other is not None and other.entry.module != entry.module:
            raise _twice(id, other.entry.module, entry.module)
        _loaded[id] = Method(entry, build)
        return build

    return register


def _twice(id: str, first: str, second: str) -> RecipeError:
    return RecipeError(f"two methods are called {id!r}", where=f"{first} and {second}", mend="rename the newer one")


def entries() -> dict[str, Entry]:
    """Every method that can be used, by id, in the order of ids. Imports no method."""
    found = dict(_installed())
    found.update({id: m.entry for id, m in _loaded.items() if id not in found})
    return dict(sorted(found.items()))


def get(id: str) -> Method:
    """The method of that id; its module is imported now.

    Raises:
        RecipeError: there is none; names the nearest.
    """
    if id not in _loaded:
        known = entries()
        if id not in known:
            raise RecipeError(f"there is no method {id!r}", where="method", mend=nearest(id, known))
        importlib.import_module(known[id].module)
    return _loaded[id]


@cache
def _installed() -> Mapping[str, Entry]:
    found: dict[str, Entry] = {}
    for module, path in [*_own_modules(), *_foreign_modules()]:
        for entry in read_entries(module, path.read_text(encoding="utf-8")):
            if entry.id in found:
                raise _twice(entry.id, found[entry.id].module, module)
            found[entry.id] = entry
    return found


def _own_modules() -> Iterator[tuple[str, Path]]:
    package = Path(__file__).parent.parent / "methods"
    for path in sorted(package.rglob("*.py")):
        if path.name != "__init__.py":
            yield ".".join(("secateur.methods", *path.relative_to(package).with_suffix("").parts)), path


def _foreign_modules() -> Iterator[tuple[str, Path]]:
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            spec = importlib.util.find_spec(point.module)
        except ImportError as error:  # somebody else's broken package must not take our list down
            _log.warning("methods of %s cannot be listed: %s", point.value, error)
            continue
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            yield point.module, Path(spec.origin)


def read_entries(module: str, source: str) -> list[Entry]:
    """The entries that a module would register, read off its source without running it."""
    if "@method" not in source:
        return []
    return [
        _read_entry(module, node, decorator)
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call) and called_name(decorator) == "method"
    ]


def _read_entry(module: str, node: ast.FunctionDef, decorator: ast.Call) -> Entry:
    where = f"{module}, line {decorator.lineno}"
    values = {k.arg: _literal(k.value, where) for k in decorator.keywords}
    summary = (ast.get_docstring(node) or "").partition("\n")[0]
    return Entry(
        id=_literal(decorator.args[0], where) if decorator.args else values["id"],
        paper=values["paper"],
        summary=summary,
        structure=values["structure"],
        when=values["when"],
        data=values["data"],
        models=tuple(values["models"]),
        start=values.get("start", "trained"),
        parameters=_read_parameters(node),
        module=module,
    )


def _literal(node: ast.expr, where: str) -> Any:
    return read_literal(node, where, {"Paper": Paper, "When": When})


def _text(node: ast.expr | None) -> str:
    if node is None:
        return ""
    try:
        return repr(ast.literal_eval(node))
    except ValueError:
        return ast.unparse(node)


def _parameters(build: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The signature as text, without source (a method may be defined at a prompt)."""
    return tuple(
        Parameter(
            p.name,
            "" if p.annotation is p.empty else inspect.formatannotation(p.annotation),
            "" if p.default is p.empty else repr(p.default),
        )
        for p in inspect.signature(build).parameters.values()
    )


def _read_parameters(node: ast.FunctionDef) -> tuple[Parameter, ...]:
    arguments = [*node.args.args, *node.args.kwonlyargs]
    plain = [None] * (len(node.args.args) - len(node.args.defaults)) + list(node.args.defaults)
    return tuple(
        Parameter(a.arg, ast.unparse(a.annotation) if a.annotation else "", _text(d))
        for a, d in zip(arguments, [*plain, *node.args.kw_defaults], strict=True)
    )
