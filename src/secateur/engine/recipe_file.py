"""Recipe files: YAML, validated at the door into the same classes that Python uses; errors name line and key."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from secateur.core import CheckpointError, Recipe, RecipeError, nearest, registry
from secateur.core.files import read_small
from secateur.core.validate import check_setting

from .methods import build_part

_ROOMS = ("structure", "score", "solve", "refine", "budget", "schedule", "calibration")
_OPTIONAL = ("refine", "budget", "schedule", "calibration")
_TARGETS = ("sparsity", "keep", "macs", "params", "bytes", "latency")
_LONGEST = 1 << 20
_LARGEST = 1 << 64
_DEEPEST = 100
_BRACKETS = re.compile(r"[\[\]{}]")


class RunFile(BaseModel):
    """The keys of a recipe file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str
    task: str | None = None
    input: str | None = None
    factory: str | None = None
    method: str | dict[str, Any] | None = None
    recipe: dict[str, Any] | None = None
    sparsity: float | None = None
    keep: float | None = None
    macs: float | None = None
    params: float | None = None
    bytes: float | None = None
    latency: float | None = None
    structure: str | None = None
    heal: float | int | None = None
    recovery: str | None = None
    seed: int = 0
    device: str | None = None
    mixed_precision: str = "no"
    run: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class Loaded:
    """A checked recipe file: its keys, and the method's id with settings, or the recipe."""

    file: RunFile
    method: str | Recipe
    settings: Mapping[str, Any]


def read_recipe(path: str | Path) -> Loaded:
    """Read and check a recipe file; nothing is run and no code is loaded from it.

    Raises:
        RecipeError: an unknown key, a wrong type, an impossible combination; names line, key and the nearest name.
    """
    path = Path(path)
    try:
        text = read_small(Path(os.path.realpath(path)), _LONGEST).decode()
    except (CheckpointError, UnicodeDecodeError) as error:
        what = error.what if isinstance(error, CheckpointError) else f"it cannot be read: {error}"
        raise RecipeError(what, where=str(path), mend="give a YAML file") from error
    data, lines = _parse(text, path)
    file = _file(data, lines, path)
    if (file.method is None) == (file.recipe is None):
        has = "both method and recipe" if file.method is not None else "neither method nor recipe"
        raise RecipeError(f"it has {has}", where=str(path), mend="give exactly one of the two")
    _check_targets(file, lines, path)
    if file.method is not None:
        id, settings = _method(file.method, lines, path)
        return Loaded(file, id, settings)
    assert file.recipe is not None
    return Loaded(file, _recipe(file.recipe, lines, path), {})


Lines = Mapping[tuple[Any, ...], int]


def _check_depth(text: str, path: Path) -> None:
    """Refuse brackets nested deeper than any recipe: a scanner takes a time for them that grows as the square."""
    depth = 0
    for line, content in enumerate(text.splitlines(), 1):
        for bracket in _BRACKETS.findall(content):
            depth += 1 if bracket in "[{" else -1
            if depth > _DEEPEST:
                raise RecipeError(
                    "it is no YAML: it is nested too deep", where=f"{path}, line {line}", mend="mend the line"
                )


def _parse(text: str, path: Path) -> tuple[dict[str, Any], Lines]:
    _check_depth(text, path)
    lines: dict[tuple[Any, ...], int] = {}
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken):
                raise RecipeError(
                    "anchors, aliases and tags are not part of a recipe",
                    where=f"{path}, line {token.start_mark.line + 1}",
                    mend="write the value itself",
                )
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except RecipeError:
        raise
    except (
        yaml.YAMLError,
        RecursionError,
        ValueError,
        TypeError,
        OverflowError,
    ) as error:  # the last two: a number, date or key
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        deep = isinstance(error, RecursionError)
        problem = getattr(error, "problem", None) or ("it is nested too deep" if deep else str(error)[:200])
        raise RecipeError(f"it is no YAML: {problem}", where=f"{path}{line}", mend="mend the line") from error
    if not isinstance(data, dict):
        raise RecipeError("it holds no keys", where=str(path), mend="write key: value lines, beginning with model:")
    _note_lines(root, (), lines, path)
    _check_plain(data, (), lines, path)
    return data, lines


def _check_plain(value: Any, at: tuple[Any, ...], lines: Lines, path: Path) -> None:
    """Keys are text, and numbers are finite and of a size that can be printed in an error."""
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise RecipeError("the number is too large", where=_place(path, lines, at), mend="give a smaller one")
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{value} is no number", where=_place(path, lines, at), mend="give a finite one")
    if isinstance(value, dict):
        odd = [key for key in value if not isinstance(key, str)]
        if odd:
            what = f"the key {str(odd[0])[:80]} is a {type(odd[0]).__name__}, not text"
            raise RecipeError(what, where=_place(path, lines, at), mend="a key is a name; put it in quotes")
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        _check_plain(inner, (*at, key), lines, path)


def _note_lines(node: Any, at: tuple[Any, ...], lines: dict[tuple[Any, ...], int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, key.value)
            if here in lines:
                raise RecipeError(
                    f"the key {key.value!r} stands twice (also in line {lines[here]})",
                    where=f"{path}, line {key.start_mark.line + 1}",
                    mend="keep one of them",
                )
            lines[here] = key.start_mark.line + 1
            _note_lines(value, here, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _note_lines(value, (*at, index), lines, path)


def _place(path: Path, lines: Lines, at: tuple[Any, ...]) -> str:
    while at and at not in lines:
        at = at[:-1]
    return f"{path}, line {lines[at]}" if at else str(path)


def _file(data: dict[str, Any], lines: Lines, path: Path) -> RunFile:
    try:
        return RunFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        at = tuple(first["loc"])
        key = str(at[0])
        where = _place(path, lines, at)
        if first["type"] == "extra_forbidden":
            mend = nearest(key, RunFile.model_fields)
            raise RecipeError(f"there is no key {key!r}", where=where, mend=mend) from error
        if first["type"] == "missing":
            raise RecipeError(f"the key {key!r} is missing", where=where, mend=f"add a line {key}: ...") from error
        what = f"{key}: {repr(first['input'])[:200]} does not fit: {first['msg'].lower()}"
        raise RecipeError(what, where=where, mend=f"give {key} as {RunFile.model_fields[key].annotation}") from error


def _check_targets(file: RunFile, lines: Lines, path: Path) -> None:
    given = [name for name in _TARGETS if getattr(file, name) is not None]
    if len(given) > 1:
        where = _place(path, lines, (max(given, key=lambda name: lines.get((name,), 0)),))
        raise RecipeError(f"both {' and '.join(given)} are given, and each is a target", where=where, mend="keep one")


def _method(given: str | dict[str, Any], lines: Lines, path: Path) -> tuple[str, dict[str, Any]]:
    settings: dict[str, Any] = {}
    if isinstance(given, str):
        id = given
    elif len(given) == 1:
        id, settings = next((str(k), v or {}) for k, v in given.items())
    else:
        where = _place(path, lines, ("method",))
        raise RecipeError(f"{len(given)} methods are named", where=where, mend="name one; compare takes more")
    known = registry.entries()
    if id not in known:
        where = _place(path, lines, ("method", id))
        raise RecipeError(f"there is no method {id!r}", where=where, mend=nearest(id, known))
    if not isinstance(settings, dict):
        what = f"the settings of {id!r} are {repr(settings)[:80]}"
        raise RecipeError(what, where=_place(path, lines, ("method", id)), mend=f"write {{{id}: {{name: value}}}}")
    build = registry.get(id).build
    checked = {
        name: check_setting(build, name, value, _place(path, lines, ("method", id, name)))
        for name, value in settings.items()
    }
    return id, checked


def _recipe(given: dict[str, Any], lines: Lines, path: Path) -> Recipe:
    known = (*_ROOMS, "recovery", "propagation", "allow_collapse")
    parts: dict[str, Any] = {}
    for key, value in given.items():
        where = _place(path, lines, ("recipe", key))
        if key not in known:
            raise RecipeError(f"there is no key {key!r}", where=where, mend=nearest(str(key), known))
        if value is None and key in _OPTIONAL:
            continue
        if key == "allow_collapse":
            if not isinstance(value, bool):
                raise RecipeError(f"allow_collapse is {value!r}", where=where, mend="true or false")
            parts[key] = value
        elif key == "propagation":
            if value not in ("whole", "pruned", "stages"):
                raise RecipeError(f"propagation is {value!r}", where=where, mend='"whole", "pruned" or "stages"')
            parts[key] = value
        elif key == "recovery":
            entries = value if isinstance(value, list) else [value]
            places = (_place(path, lines, ("recipe", key, i)) for i in range(len(entries)))
            parts[key] = tuple(build_part("recovery", v, p) for v, p in zip(entries, places, strict=True))
        else:
            parts[key] = build_part(key, value, where)
    for key in ("structure",) if "solve" in parts else ("structure", "score"):
        if key not in parts:
            raise RecipeError(
                f"the key {key!r} is missing", where=_place(path, lines, ("recipe",)), mend=f"add a line {key}: ..."
            )
    return Recipe(**parts)
