"""The report: one HTML file that needs neither a network nor anything beside it."""

import base64
import datetime
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from secateur._version import __version__
from secateur.core.errors import CheckpointError

from .data import Tables, page_data
from .embed import script_json
from .finding import caveats, headline, percent, winners
from .gather import Gathered, Source, gather
from .read import text

SCRIPTS = ("tools", "state", "theme", "tradeoff", "layers", "overlap", "curves", "details", "table", "start")
_MOST_NOTICES = 50


def write_report(folders: Sequence[str | Path] | str | Path, path: str | Path = "report.html") -> Path:
    """Write the report of comparisons and saved results as one self-contained HTML file.

    Args:
        folders: comparisons (finished or not), run folders, saved results, or folders that hold several of them.
        path: the file; one that is there is replaced, whole or not at all.

    Raises:
        CheckpointError: a folder holds nothing that can be reported, or the file cannot be written.
    """
    from secateur.engine.tensors import write_atomically

    target = Path(path)
    named = [folders] if isinstance(folders, str | Path) else list(folders)
    content = render(gather(named), target).encode("utf-8")
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    except OSError as error:
        what, mend = f"the report cannot be written: {error.strerror or error}", "choose another file with -o"
        raise CheckpointError(what, where=str(target), mend=mend) from error
    return target


def render(found: Gathered, path: Path) -> str:
    """The page as text.

    Args:
        path: where it will lie; links are relative to it.
    """
    import jinja2
    import plotly

    tables = Tables(found)
    data, notices = page_data(tables, path)
    said = [*_states(found.sources), *found.notices, *notices]
    library = (files(plotly) / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    own = "\n".join(part(f"{name}.js") for name in SCRIPTS)
    program = f'"use strict";\n(() => {{\n{own}}})();\n'
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(part("page.html.j2"))
    return template.render(
        title=_title(found),
        sources=[_source(i, tables) for i in range(len(found.sources))],
        notices=[text(n, 500) for n in said[:_MOST_NOTICES]],
        more=max(0, len(said) - _MOST_NOTICES),
        totals=_totals(found),
        data=script_json(data),
        style=part("page.css"),
        library=library,
        program=program,
        hashes=" ".join(f"'sha256-{script_hash(script)}'" for script in (library, program)),
        version=__version__,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def part(name: str) -> str:
    """A piece of the pages, as text."""
    return (files("secateur.report") / "page" / name).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """By which a page's policy lets an inline script run."""
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _totals(found: Gathered) -> dict[str, int]:
    done, failed, missing = (sum(getattr(s, k) for s in found.sources) for k in ("done", "failed", "missing"))
    return {"cells": done + failed + missing, "done": done, "failed": failed, "missing": missing}


def _states(sources: Sequence[Source]) -> list[str]:
    """What is not there yet, or went wrong."""
    said = []
    for s in sources:
        if s.failed or s.missing:
            total = s.done + s.failed + s.missing
            parts = [f"{s.done} of {total} cells"]
            parts += [f"{s.failed} failed"] if s.failed else []
            parts += [f"{s.missing} not run yet"] if s.missing else []
            said.append(f"{s.name}: {'; '.join(parts)}.")
    return said


def _title(found: Gathered) -> str:
    named = [s for s in found.sources if s.protocol.get("model")]
    if len(named) == 1 == len(found.sources):
        protocol = named[0].protocol
        task = protocol.get("task")
        return text(f"{protocol['model']} on {task}" if task else protocol["model"], 120)
    return (
        text(" and ".join(s.name for s in found.sources[:3]), 120) if len(found.sources) <= 3 else "Several comparisons"
    )


def _source(number: int, tables: Tables) -> dict[str, Any]:
    """What the head of the page says about one source."""
    source = tables.found.sources[number]
    groups = [g for g in tables.groups if g.series.source == number]
    metric = source.metric or next(iter(tables.metrics), "")
    best = winners(groups, [tables.name(g) for g in groups], metric, tables.lower(metric))
    pruned = [g for g in groups if not g.series.reference]
    return {
        "name": source.name,
        "metric": metric,
        "better": "less is better" if tables.lower(metric) else "more is better",
        "headline": headline(best, metric),
        "winners": [
            {
                "sparsity": percent(w.sparsity),
                "name": w.name,
                "mean": f"{w.mean.mean:.4g}",
                "interval": "" if w.mean.low is None else f"{w.mean.low:.4g} to {w.mean.high:.4g}",
                "seeds": w.seeds,
                "kind": w.kind,
                "rivals": w.rivals,
                "alike": w.alike,
                "beside": w.beside,
            }
            for w in best
        ],
        "caveats": caveats(groups, text(source.protocol.get("budget"))),
        "facts": [
            _count(len({g.series for g in pruned}), "method", "methods"),
            _count(len({g.sparsity for g in pruned}), "sparsity", "sparsities"),
            _count(len({g.recovery for g in pruned}), "recovery", "recoveries"),
            _count(len({r.seed for g in groups for r in g.runs}), "seed", "seeds"),
        ],
        "protocol": _pairs(source.protocol),
        "environment": _pairs(source.environment),
        "command": source.command,
        "left_out": source.left_out,
    }


def _count(number: int, one: str, many: str) -> tuple[str, str]:
    return one if number == 1 else many, str(number)


def _pairs(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(text(k).replace("_", " "), _shown(v)) for k, v in found.items() if v not in (None, "", [], {})]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return text(", ".join(map(_shown, value)), 500)
    if isinstance(value, dict):
        return text(", ".join(f"{k} {_shown(v)}" for k, v in value.items()), 500)
    return text(value, 500)
