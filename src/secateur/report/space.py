"""The page of a pruning space: how errors are distributed, how they depend on the ratio, and all samples."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur._version import __version__
from secateur.analysis import empirical_distribution
from secateur.core.errors import CheckpointError

from .embed import rounded, script_json
from .write import part, script_hash

if TYPE_CHECKING:
    from secateur.engine.spaces import PruningSpace

_MOST_ROWS = 500


def write_space(found: "PruningSpace", path: str | Path = "pruning-space.html", title: str = "Pruning space") -> Path:
    """Write a pruning space as one self-contained HTML file; one that is there is replaced, whole or not at all.

    Raises:
        CheckpointError: the file cannot be written.
    """
    from secateur.engine.tensors import write_atomically

    target = Path(path)
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, render_space(found, title).encode("utf-8"))
    except OSError as error:
        what = f"the page cannot be written: {error.strerror or error}"
        raise CheckpointError(what, where=str(target), mend="choose another folder with -o") from error
    return target


def render_space(found: "PruningSpace", title: str) -> str:
    """The page as text."""
    from importlib.resources import files

    import jinja2
    import plotly

    library = (files(plotly) / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    program = f'"use strict";\n(() => {{\n{part("space.js")}}})();\n'
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    summary, protocol = found.summary(), found.protocol
    rows = sorted(found.samples, key=lambda s: s.error)
    refined = {s.index for s in found.refined}
    return environment.from_string(part("space.html.j2")).render(
        title=title[:120],
        said=said(summary),
        facts=[(f"{protocol['share']:.0%} of the {protocol['cost']}", "stay"), *_facts(summary)],
        protocol=[(name.replace("_", " "), value) for name, value in protocol.items()],
        families=list(rows[0].counts),
        rows=[(s, s.index in refined) for s in rows[:_MOST_ROWS]],
        left_out=max(0, len(rows) - _MOST_ROWS),
        data=script_json(plots(found)),
        style=part("page.css"),
        library=library,
        program=program,
        hashes=" ".join(f"'sha256-{script_hash(script)}'" for script in (library, program)),
        version=__version__,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def plots(found: "PruningSpace") -> dict[str, Any]:
    """What the page draws: empirical distributions of the whole and the refined space, errors over ratios."""
    refined = [s.error for s in found.refined]
    curves = {"whole": [s.error for s in found.samples], "refined": refined}
    return {
        "distributions": {
            name: [[rounded(v) for v in axis] for axis in empirical_distribution(errors)]
            for name, errors in curves.items()
            if errors
        },
        "ratios": [rounded(s.ratio) for s in found.samples],
        "errors": [rounded(s.error) for s in found.samples],
        "best": rounded(found.best_ratio),
        "dense": rounded(found.dense["ratio"]),
        "width": found.width,
    }


def said(summary: dict[str, Any]) -> str:
    """The finding in a sentence, with its doubt."""
    best, p = summary["best_ratio"], summary["p_nearest_third"]
    sentence = f"The error is lowest near {best:.4g} MACs for each parameter; the dense network has "
    sentence += f"{summary['dense_ratio']:.4g}."
    if p is None:
        return sentence
    doubt = "has lower errors than" if p < 0.05 else "cannot be told apart from"
    return f"{sentence} The third of the samples nearest to it {doubt} the others (p = {p:.2g}, of the same samples)."


def _facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [
        (str(summary["samples"]), "samples"),
        (f"{summary['lowest_error']:.4g}", "lowest error"),
        (f"{summary['median_error']:.4g}", "median"),
    ]
    if summary["refined_median_error"] is not None:
        facts.append((f"{summary['refined_median_error']:.4g}", f"median of {summary['refined']} near the best ratio"))
    return facts
