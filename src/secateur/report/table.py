"""Tables in the terminal."""

import csv
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from secateur.core.costs import Layer
from secateur.engine.compare import Comparison
from secateur.engine.families import Families, FamilyRow

from .blocks import blocks_text

COLUMNS = (
    "sparsity",
    "recovery",
    "parameters",
    "non-zero",
    "MACs",
    "MACs non-zero",
    "on disk",
    "latency",
    "train steps",
    "train MACs",
)
_FEW = 4
_NOTABLE = 0.03
"""From this share of the MACs on it is told that they do not pay."""
_COSTS = {"parameters": "params", "MACs": "macs", "bytes": "bytes", "latency ms": "latency_ms"}


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


def print_families(name: str, found: Families) -> None:
    """The tables of `inspect --structure`: what can be cut out in one piece, and what stays, with the reason."""
    table = Table(title=escape(f"{name}: what can be cut out in one piece"))
    table.add_column("family", overflow="fold")
    for column in ("kind", "units", "tag", "parameters of one", "MACs of one"):
        table.add_column(column, justify="left" if column in ("kind", "tag") else "right")
    table.add_column("where: tensor, dimension, positions of each unit", overflow="fold")
    for f in found.families:
        params = f"{human(f.params)} ({f.params / max(found.params, 1):.2%})"
        macs = f"{human(f.macs)} ({f.macs / max(found.macs, 1):.2%})"
        units = str(f.units) if f.lanes == 1 else f"{f.units} in {f.lanes}"
        cells = (f.name, f.kind, units, f.tag, params, macs, _first_few(_places(f)))
        table.add_row(*map(escape, cells))
    stays = Table(title="what stays")
    for column in ("positions", "why", "where: tensor, dimension"):
        stays.add_column(column, justify="right" if column == "positions" else "left", overflow="fold")
    for row in found.frozen:
        stays.add_row(str(row.positions), escape(row.why), escape(_first_few(row.places, "; ")))
    console = _console()
    console.print(table)
    console.print(stays)
    lines = [f"{human(found.params)} parameters, {human(found.macs)} MACs; recorded on {found.found_on}"]
    if any(f.lanes > 1 for f in found.families):
        lines.append("A in B: each of B groups, heads or keys loses as many of its A, those that matter least in it")
    lines += [f"no rule for {op!r}, in {_first_few(where)}: it stays" for op, where in found.unknown.items()]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _places(family: FamilyRow) -> list[str]:
    """Where the units of a family lie, without the path that all of its tensors share."""
    paths = [m.tensor.split(".") for m in family.members]
    steps = zip(*(path[:-2] for path in paths), strict=False)
    shared = len(list(takewhile(lambda names: len(set(names)) == 1, steps)))
    return [
        f"{'.'.join(path[shared:])} {m.dim}" + (f" x{m.positions}" if m.positions > 1 else "")
        for path, m in zip(paths, family.members, strict=True)
    ]


def _first_few(names: Sequence[str], separator: str = ", ") -> str:
    more = f"{separator}... ({len(names)} in all)" if len(names) > _FEW else ""
    return separator.join(name or "the model" for name in names[:_FEW]) + more


def print_comparison(found: Comparison, checked: Mapping[str, Any] | None) -> None:
    """The table of `compare`, under which protocol it was measured, and what was saved."""
    table = Table(title=f"{found.metric}, mean over seeds ± half of its 95 % interval")
    table.add_column("method", overflow="fold")
    for column in _head(found)[1:]:
        table.add_column(column, justify="left" if column == "recovery" else "right", overflow="fold")
    last = None
    for row in found.summary():
        if last is not None and row["label"] != last:
            table.add_section()
        last = row["label"]
        table.add_row(*_cells(row))
    console = _console()
    console.print(table)
    for line in protocol_lines(found):
        console.print(line, style="dim", soft_wrap=True, markup=False, highlight=False)
    if found.best is not None:
        b = found.best
        where = found.folder / "best"
        print(f"best: {b['label']} at {b['sparsity']}, seed {b['seed']}: {b['metrics'][found.metric]:.4f}  -> {where}")
    if checked is not None:
        outcomes = {True: "identical", False: "DIFFERENT", None: f"unknown: {checked.get('reason')}"}
        same = outcomes[checked.get("identical")]
        print(f"reloaded in a fresh process: outputs {same}")


def protocol_lines(found: Comparison) -> list[str]:
    """Under which protocol the figures came about, in a few sentences."""
    told, epochs = found.protocol, found.protocol["epochs"]
    start = f"{epochs['dense']:g} epochs dense" if epochs["dense"] else "the model came trained"
    budgets = {
        "equal": f"then {epochs['heal']:g} in all; methods that begin untrained get both in one",
        "own": f"then {epochs['heal']:g} in each leg, so methods train for different lengths",
    }
    given = sorted({r["label"] for r in found.rows if r["tuned"] == "given"})
    tuned = f"settings given for {', '.join(given)}" if given else "the papers' settings, not tuned"
    lines = [
        f"protocol: {start}, {budgets[told['budget']]} ({told['epoch_steps']} steps each); the same weights and "
        f"data order for the same seed; {tuned}. Train steps and MACs count the dense start where a method uses it.",
    ]
    if any(r["nonzero"] < r["params"] for r in found.rows if "params" in r):
        lines.append(
            "MACs non-zero counts multiplications by weights that stayed; a dense kernel still runs all MACs, "
            "so the latency of masked weights is about 1 times the dense model's."
        )
    lines += [f"left out: {x['method']} with {x['recovery']}: {x['reason']}" for x in found.left_out]
    return lines


def write_tables(found: Comparison) -> None:
    """The same table beside the cells, as `table.md` and `table.csv` (the latter with full figures)."""
    rows = found.summary()
    head = _head(found)
    lines = [head, ["---"] * len(head), *map(_cells, rows)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    protocol = "\n".join(f"- {line}" for line in protocol_lines(found))
    (found.folder / "table.md").write_text(f"{text}\n\n{protocol}\n", encoding="utf-8")
    with (found.folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def _head(found: Comparison) -> list[str]:
    return ["method", *COLUMNS[:2], found.metric, *COLUMNS[2:]]


def _cells(row: Mapping[str, Any]) -> list[str]:
    target = "" if row["sparsity"] is None else f"{row['sparsity']:g}"
    begin = [row["label"], target, row["recovery"] or ""]
    if "mean" not in row:
        return [*begin, "failed", *[""] * (len(COLUMNS) - 2)]
    return [
        *begin,
        _with_interval(row),
        human(row["params"]),
        human(row["nonzero"]),
        human(row["macs"]),
        human(row["macs_nonzero"]),
        human(row["bytes_on_disk"]),
        f"{row['latency_ratio']:.2f}",
        human(row["train_steps"] + row["train_steps_before"]),
        human(row["train_macs"]),
    ]


def _with_interval(row: Mapping[str, Any]) -> str:
    mean = f"{row['mean']:.4f}"
    return mean if row["low"] is None else f"{mean} ± {(row['high'] - row['low']) / 2:.4f}"


def result_text(found: Mapping[str, Any]) -> str:
    """The few lines that `prune` prints."""
    before, after, sparsity = found["before"], found["after"], found["sparsity"]
    lines = _what_went(before, after, sparsity)
    for name, value in after.get("metrics", {}).items():
        lines.append(f"{name:<10} {before['metrics'][name]:.4f} -> {value:.4f}")
    if sparsity["skipped"]:
        reasons = _by_reason(sparsity["skipped"])
        lines += [f"{'' if k else 'skipped':<10} {reason}" for k, reason in enumerate(reasons)]
    for told in found.get("history", ()):
        if told.get("blocks"):
            lines.append(blocks_text(told["blocks"]))
    if "folder" in found:
        lines.append(f"saved      {found['folder']} ({human(found['bytes_on_disk'])}B)")
    return "\n".join(lines)


def _what_went(before: Mapping[str, Any], after: Mapping[str, Any], sparsity: Mapping[str, Any]) -> list[str]:
    """Units and costs where something was cut out, zeros where it was masked."""
    if after.get("params") == before.get("params"):
        overall = sparsity.get("sparsity_all", 0)
        return [
            f"sparsity   {sparsity['sparsity']:.2%} of the prunable, {overall:.2%} of all parameters",
            f"non-zero   {human(before.get('nonzero'))} -> {human(after.get('nonzero'))}",
        ]
    lines = [f"units      {sparsity['kept']} of {sparsity['units']} stay"]
    for name, key in _COSTS.items():
        if key in before and key in after:
            old, new = before[key], after[key]
            lines.append(f"{name:<10} {human(old)} -> {human(new)} ({new / max(old, 1e-12):.1%})")
            lines += _does_not_pay(before, after) if key == "macs" else []
    return lines


def _does_not_pay(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What convolutions cost, whose kernels advance by 16 channels; nothing where that is no more than is told."""
    if not all(costs.get("macs") and "macs_in_steps" in costs for costs in (before, after)):
        return []
    told, real = after["macs"] / before["macs"], after["macs_in_steps"] / before["macs_in_steps"]
    if real - told < _NOTABLE or after["macs"] == before["macs"]:
        return []
    return [
        f"           in steps of 16 channels, as convolutions run, {real:.1%}: widths between do not pay;",
        "           give --latency, or structure=Channels(multiple=16)",
    ]


def _by_reason(skipped: Mapping[str, str]) -> list[str]:
    """What was left out, equal reasons once."""
    names: dict[str, list[str]] = {}
    for name, why in skipped.items():
        names.setdefault(why, []).append(name)
    return [f"{_first_few(left)}: {why}" for why, left in names.items()]


def _console() -> Console:
    """Wide enough for a table where the output is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=180)
