"""Coverage: does any architecture come out half as costly, proven, trainable, saved and loaded?

Every model of the lists, with random weights, in a process of its own: its families are found, half its MACs are cut by
magnitude and proven by both oracles, it runs forward and backward, is saved, and is loaded in another process that
never had it, where it must give the same to the last bit. Beside that: what share of the parameters stays when every
family loses half its units, and where that is much more than half, what keeps the rest.

Rows are kept in a folder, by model, versions and the digest of the engine, so that an interrupted run goes on where it
was; `--again` measures anew, as after a change of the check or of a list.
"""

import fnmatch
import hashlib
import importlib.metadata
import json
import math
import os
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

import secateur
from coverage_check import loaded, pruned, warm
from coverage_diffusers import diffusers_cases
from coverage_reasons import WIDE, explained
from coverage_timm import timm_cases
from coverage_torch import torch_cases
from coverage_torchvision import torchvision_cases
from coverage_transformers import transformers_cases
from harness import forked, parser, tell
from structured_cases import Case

ZOOS: dict[str, Callable[[], Iterator[Case]]] = {
    "torch": torch_cases,
    "transformers": transformers_cases,
    "diffusers": diffusers_cases,
    "torchvision": torchvision_cases,
    "timm": timm_cases,
}
_MOST_MEMORY = 16 << 30
_CACHE = Path(__file__).parent / ".coverage"

Row = dict[str, Any]


def checked(case: Case, limit_s: int) -> Row:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        row = forked(lambda: pruned(case, Path(folder)), limit_s, _MOST_MEMORY)
        if "error" not in row:
            row |= forked(lambda: loaded(case, Path(folder)), limit_s, _MOST_MEMORY)
    if "error" in row:
        row.setdefault("failed", "limit")
        if "allocate memory" in row["error"] or row["error"].startswith("MemoryError"):
            row["error"] = "memory"
    return row | {"passed": "error" not in row}


class Cache:
    """Rows on disk, each for one model, one set of versions and one state of the engine."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._engine = folder, engine_digest()

    def row(self, case: Case) -> Row | None:
        """What is known of a model; None for nothing."""
        file = self._file(case)
        return dict(json.loads(file.read_text())) if file.exists() else None

    def keep(self, case: Case, row: Row) -> None:
        """Whole or not at all."""
        file = self._file(case)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(row, indent=1))
        part.replace(file)

    def _file(self, case: Case) -> Path:
        versions = [importlib.metadata.version(name) for name in dict.fromkeys(("torch", case.zoo))]
        state = "\n".join((case.zoo, case.name, *versions, self._engine))
        return self._folder / f"{case.zoo}.{case.name}.{hashlib.sha256(state.encode()).hexdigest()[:16]}.json"


def engine_digest() -> str:
    """Of every file of the engine and its structures."""
    root = Path(secateur.__file__).parent
    files = sorted(f for folder in ("graph", "structures") for f in (root / folder).rglob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()


def chosen(zoos: list[str], only: str) -> Iterator[Case]:
    """Those whose "zoo/name" fits the pattern, or holds it."""
    for case in (case for zoo in zoos for case in ZOOS[zoo]()):
        name = f"{case.zoo}/{case.name}"
        if only in name or fnmatch.fnmatch(name, only):
            yield case


def line(name: str, row: Row) -> str:
    """One row of the table; where much stays, with the first reason."""
    shares = "  ".join(f"{row.get(key, math.nan):.3f}" for key in ("macs", "parameters_left", "half"))
    seconds = "  ".join(f"{row.get(key, math.nan):6.2f}" for key in ("find_s", "cpu_s"))
    if row["passed"]:
        verdict = f"passes, {row['least']} of the MACs being the least" if "least" in row else "passes"
    else:
        verdict = f"FAILS at {row['failed']}: {row['error']}"
    why = f"; {row['held'][0]['reason']}" if row.get("held") else ""
    return f"{name:52} {shares}  {seconds}  {verdict}{why[:120]}"


def summary(rows: dict[str, Row]) -> dict[str, Any]:
    """By zoo: how many passed, and of them above half the MACs; how many keep much of their width; times of finding."""
    found: dict[str, Any] = {}
    for zoo in dict.fromkeys(name.split("/")[0] for name in rows):
        mine = [row for name, row in rows.items() if name.startswith(f"{zoo}/")]
        wide = [row for row in mine if row.get("half", 0) > WIDE]
        seconds = [row["find_s"] for row in mine if "find_s" in row]
        found[zoo] = {
            "models": len(mine),
            "passed": sum(row["passed"] for row in mine),
            "failed": dict(Counter(row["failed"] for row in mine if not row["passed"])),
            "not_half": sum(row["passed"] and "least" in row for row in mine),
            "wide": len(wide),
            "unexplained": sum(not explained(row) for row in wide),
            "find_median_s": statistics.median(seconds) if seconds else None,
            "find_longest_s": max(seconds, default=None),
            "cpu_s": round(sum(row.get("cpu_s", 0) for row in mine), 1),
        }
    return found


def main() -> None:
    """The command line."""
    options = parser(__doc__)
    options.add_argument("--zoo", nargs="+", choices=ZOOS, default=list(ZOOS))
    options.add_argument("--only", metavar="PATTERN", default="", help="of zoo/name")
    options.add_argument("--again", action="store_true", help="also what is known already")
    options.add_argument("--cache", type=Path, default=_CACHE, metavar="FOLDER")
    options.add_argument("--limit", type=int, default=120, metavar="SECONDS", help="of processor time for each model")
    given = options.parse_args()
    torch.set_num_threads(1)
    warm()
    cache = Cache(given.cache)
    rows: dict[str, Row] = {}
    print(f"{'model':52}  MACs  params  half    find    whole", file=sys.stderr)
    for case in chosen(given.zoo, given.only):
        row = None if given.again else cache.row(case)
        if row is None:
            row = checked(case, given.limit)
            cache.keep(case, row)
        rows[f"{case.zoo}/{case.name}"] = row
        print(line(f"{case.zoo}/{case.name}", row), file=sys.stderr, flush=True)
    tell("coverage", {"summary": summary(rows), "models": rows}, given.json)


if __name__ == "__main__":
    main()
