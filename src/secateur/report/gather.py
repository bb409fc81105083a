"""What lies in the named folders: comparisons, finished or not, and saved results; what is damaged is told by name."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secateur.core.errors import CheckpointError
from secateur.core.progress import report

from .read import MOST_COMPARISON, MOST_ROW, mapping, plain, read_json, text
from .runs import Run, read_result, run_before, run_of_result, run_of_row, with_result

LOOSE = "saved results"
_DEPTH = 3


@dataclass
class Source:
    """A comparison, or all saved results that belong to none.

    Attributes:
        metric, lower: what decides, and whether less of it is better; an empty name where it is not known.
        lower_is_better: names of all metrics of which less is better; None where nobody said.
        done, failed, missing: cells by state.
    """

    name: str
    metric: str = ""
    lower: bool = False
    lower_is_better: frozenset[str] | None = None
    protocol: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    command: str | None = None
    left_out: list[dict[str, str]] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    missing: int = 0


@dataclass
class Gathered:
    """Everything that a report shows, as read."""

    sources: list[Source] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def gather(folders: Sequence[str | Path]) -> Gathered:
    """Read all folders.

    Raises:
        CheckpointError: a folder is missing, or holds nothing that can be reported.
    """
    found = Gathered()
    loose: list[Path] = []
    for folder in dict.fromkeys(Path(f) for f in folders):
        before = len(found.sources) + len(loose)
        for kind, path in _places(folder):
            if kind == "comparison":
                _comparison(path, found)
            else:
                loose.append(path)
        if len(found.sources) + len(loose) == before:
            raise _nothing(folder, found.notices)
    if loose:
        _results(loose, found)
    if not found.runs and not any(s.missing for s in found.sources):
        raise _nothing(Path(folders[0]) if folders else Path(), found.notices)
    return found


def _nothing(folder: Path, notices: Sequence[str]) -> CheckpointError:
    mend = "name the folder of `secateur compare` or `secateur prune`, or one that holds several of them"
    if not folder.is_dir():
        return CheckpointError("there is no such folder", where=str(folder), mend=mend)
    why = f"; {notices[-1]}" if notices else ""
    return CheckpointError(f"there is nothing to report in it{why}", where=str(folder), mend=mend)


def _places(folder: Path, depth: int = _DEPTH) -> Iterator[tuple[str, Path]]:
    """(kind, folder) of everything that can be reported; what is found is not searched further."""
    if (folder / "comparison.json").is_file():
        yield "comparison", folder
    elif (folder / "secateur.json").is_file():
        yield "result", folder
    elif (folder / "run.json").is_file():
        yield "run", folder / "result"
    elif depth:
        try:
            inside = sorted(e.path for e in os.scandir(folder) if e.is_dir(follow_symlinks=False) and e.name[0] != ".")
        except OSError:
            return
        for path in inside:
            yield from _places(Path(path), depth - 1)


def _comparison(folder: Path, found: Gathered) -> None:
    try:
        told = read_json(folder / "comparison.json", MOST_COMPARISON)
        if told.get("format") != 1:
            what = f"it has format {text(told.get('format'))!r}; this version reads 1"
            raise CheckpointError(what, where=str(folder / "comparison.json"), mend="upgrade secateur")
    except CheckpointError as error:
        found.notices.append(_notice(folder.name, error))
        return
    names = told.get("cells")
    names = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
    command = told.get("command")
    left_out, less = told.get("left_out"), told.get("lower_is_better")
    source = Source(
        name=text(folder.resolve().name),
        metric=text(told.get("metric")),
        lower=told.get("lower") is True,
        lower_is_better=frozenset(text(name) for name in less) if isinstance(less, list) else None,
        protocol=mapping(plain(mapping(told.get("protocol")))),
        environment=mapping(plain(mapping(told.get("environment")))),
        command=text(command, 4000) if isinstance(command, str) else None,
        left_out=[
            {key: text(item.get(key), 500) for key in ("method", "recovery", "reason")}
            for item in (left_out if isinstance(left_out, list) else [])[:200]
            if isinstance(item, dict)
        ],
    )
    found.sources.append(source)
    for done, name in enumerate(dict.fromkeys(names)):
        report(f"reading {source.name}", done, len(names))
        _cell(folder, name, source, found)


def _cell(folder: Path, name: str, source: Source, found: Gathered) -> None:
    number = len(found.sources) - 1
    if name in ("", ".", "..") or Path(name).name != name or not name.isprintable() or len(name.encode()) > 255:
        found.notices.append(f"{text(name)!r} is no name of a cell: left out.")
        source.failed += 1
        return
    cell = folder / "cells" / name
    row, error = cell / "row.json", cell / "error.json"
    try:
        if not row.exists() and not error.exists():
            source.missing += 1
            return
        run = run_of_row(read_json(row if row.exists() else error, MOST_ROW), number, text(name))
    except CheckpointError as problem:
        source.failed += 1
        found.notices.append(_notice(name, problem))
        return
    if not row.exists() and not run.error:
        run = run_of_row({"error": "it failed without a word"}, number, text(name))
    source.failed += bool(run.error)
    source.done += not run.error
    found.runs.append(run if run.error else _with_saved(run, cell, found))


def _with_saved(run: Run, cell: Path, found: Gathered) -> Run:
    """The cell's saved result, wherever in its folder it lies; a row without one still has its measures."""
    for saved in (cell / "run" / "result", cell / "result"):
        if (saved / "secateur.json").exists():
            try:
                return with_result(run, saved, read_result(saved))
            except CheckpointError as error:
                found.notices.append(_notice(run.name, error))
                return run
    return run


def _results(folders: Sequence[Path], found: Gathered) -> None:
    source = Source(LOOSE)
    found.sources.append(source)
    starts: set[tuple[object, ...]] = set()
    for done, folder in enumerate(dict.fromkeys(folders)):
        report("reading results", done, len(folders))
        name = _name(folder.absolute())
        try:
            if not (folder / "secateur.json").exists():
                source.missing += 1
                found.notices.append(f"{text(name)}: the run has not ended yet.")
                continue
            manifest = read_result(folder)
            run = run_of_result(manifest, folder, len(found.sources) - 1, text(name))
            start = run_before(run, manifest)
        except CheckpointError as error:
            source.failed += 1
            found.notices.append(_notice(name, error))
            continue
        source.done += 1
        found.runs.append(run)
        if start is not None and (key := (start.seed, *start.metrics.items(), *start.costs.items())) not in starts:
            starts.add(key)
            found.runs.append(start)
    names = [name for run in found.runs if run.source == len(found.sources) - 1 for name in run.metrics]
    source.metric = next(iter(names), "")


def _name(folder: Path) -> str:
    """A saved result lies in `result`, that of a cell in `run/result`: neither name says which one it is."""
    parts = [part for part in folder.parts[1:] if part not in ("run", "result")]
    return parts[-1] if parts else str(folder)


def _notice(name: str, error: CheckpointError) -> str:
    return text(f"{name}: {Path(error.where).name}: {error.what}.", 500)
