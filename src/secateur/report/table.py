"""Tables in the terminal."""

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from secateur.core.costs import Layer
from secateur.engine.compare import Comparison

COLUMNS = (
    "sparsity",
    "parameters",
    "non-zero",
    "MACs",
    "MACs non-zero",
    "bytes on disk",
    "latency ratio",
    "train steps",
)


def human(number: float | None) -> str:
    """1234567 -> 1.23M; an empty string for None."""
    if number is None:
        return ""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(number) >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.4g}"


def print_layers(name: str, rows: Sequence[Layer]) -> None:
    """The layer table of `inspect`."""
    total = sum(r.params for r in rows) or 1
    table = Table(title=name)
    for column in ("tensor", "module", "shape"):
        table.add_column(column, overflow="fold")
    for column in ("parameters", "share", "sparsity", "MACs"):
        table.add_column(column, justify="right")
    for r in rows:
        share, shape = f"{r.params / total:.1%}", "x".join(map(str, r.shape))
        table.add_row(r.name, r.kind, shape, human(r.params), share, f"{r.sparsity:.1%}", human(r.macs))
    nonzero = sum(r.nonzero for r in rows)
    known = [r.macs for r in rows if r.macs is not None]
    macs = human(sum(known)) if known else ""
    table.add_section()
    table.add_row("total", "", "", human(total), "100.0%", f"{1 - nonzero / total:.1%}", macs)
    _console().print(table)


def print_comparison(found: Comparison, checked: Mapping[str, Any] | None) -> None:
    """The table of `compare`, and what was saved."""
    table = Table(title=f"{found.metric}, mean ± standard deviation over seeds")
    table.add_column("method")
    for column in (COLUMNS[0], found.metric, *COLUMNS[1:]):
        table.add_column(column, justify="right")
    last = None
    for row in found.summary():
        if last is not None and row["method"] != last:
            table.add_section()
        last = row["method"]
        table.add_row(*_cells(row))
    _console().print(table)
    note = "MACs non-zero counts multiplications by weights that stayed; a dense kernel still runs all MACs, "
    _console().print(note + "so the latency ratio of masked weights is about 1.", style="dim")
    if found.best is not None:
        b = found.best
        where = found.folder / "best"
        print(f"best: {b['method']} at {b['sparsity']}, seed {b['seed']}: {b['metrics'][found.metric]:.4f}  -> {where}")
    if checked is not None:
        outcomes = {True: "identical", False: "DIFFERENT", None: f"unknown: {checked.get('reason')}"}
        same = outcomes[checked.get("identical")]
        print(f"reloaded in a fresh process: outputs {same}")


def write_tables(found: Comparison) -> None:
    """The same table beside the cells, as `table.md` and `table.csv` (the latter with full figures)."""
    rows = found.summary()
    head = ["method", *COLUMNS[:1], found.metric, *COLUMNS[1:]]
    lines = [head, ["---"] * len(head), *map(_cells, rows)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    (found.folder / "table.md").write_text(text + "\n", encoding="utf-8")
    with (found.folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def _cells(row: Mapping[str, Any]) -> list[str]:
    target = "" if row["sparsity"] is None else f"{row['sparsity']:.2f}"
    if "mean" not in row:
        return [row["method"], target, "failed"]
    return [
        row["method"],
        target,
        f"{row['mean']:.4f} ± {row['std']:.4f}",
        human(row["params"]),
        human(row["nonzero"]),
        human(row["macs"]),
        human(row["macs_nonzero"]),
        human(row["bytes_on_disk"]),
        f"{row['latency_ratio']:.2f}",
        human(row["train_steps"]),
    ]


def result_text(found: Mapping[str, Any]) -> str:
    """The few lines that `prune` prints."""
    before, after, sparsity = found["before"], found["after"], found["sparsity"]
    overall = sparsity.get("sparsity_all", 0)
    lines = [
        f"sparsity   {sparsity['sparsity']:.2%} of the prunable, {overall:.2%} of all parameters",
        f"non-zero   {human(before.get('nonzero'))} -> {human(after.get('nonzero'))}",
    ]
    for name, value in after.get("metrics", {}).items():
        lines.append(f"{name:<10} {before['metrics'][name]:.4f} -> {value:.4f}")
    if sparsity["skipped"]:
        lines.append("skipped    " + "; ".join(f"{n}: {why}" for n, why in sparsity["skipped"].items()))
    if "folder" in found:
        lines.append(f"saved      {found['folder']} ({human(found['bytes_on_disk'])}B)")
    return "\n".join(lines)


def _console() -> Console:
    """Wide enough for a table where the output is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
