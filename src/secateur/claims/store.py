"""Stored results of claims, and the list of all claims, read without importing torch or running a claim."""

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from secateur.core.errors import CheckpointError
from secateur.core.literals import called_name, read_literal

from .verdict import Expect, higher, lower, within

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Record:
    """A measured claim.

    Attributes:
        id, method, name, against, claim, expect, differs: of the claim when it was run.
        runs: one for each seed: `seed`, the measures of each side (`method`, `against`), CPU seconds of each (`cpu_s`).
        differences: paired, positive where the method is better; `mean` and 95 % `interval` of them.
        verdict: "holds", "does not hold" or "undecided".
        versions, date: of the run.
        fingerprint: of the code that measured.
    """

    id: str
    method: str
    name: str
    against: str
    claim: str
    expect: Expect
    differs: str
    runs: tuple[Mapping[str, Any], ...]
    differences: tuple[float, ...]
    mean: float
    interval: tuple[float, float]
    verdict: str
    versions: Mapping[str, str]
    date: str
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @staticmethod
    def from_json(data: Any, where: str) -> "Record":
        """The inverse of `to_json`. Raises `CheckpointError` for anything else."""
        try:
            values = {f.name: data[f.name] for f in fields(Record)}
            values["expect"] = Expect(**values["expect"])
            for name in ("runs", "differences", "interval"):
                values[name] = tuple(values[name])
            return Record(**values)
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"this is no result of a claim: {error!r}", where=where, mend="delete the file and run the claim again"
            ) from error


@dataclass(frozen=True)
class Listed:
    """One claim as its source tells it, and its result if there is one.

    Attributes:
        stale: a result is there, but the claim or the code that measures it is another by now.
        finding: why it came out as it did, where someone looked.
    """

    id: str
    method: str
    name: str
    against: str
    claim: str
    expect: Expect
    seeds: int
    differs: str
    finding: str
    module: str
    fingerprint: str
    result: Record | None = None

    @property
    def stale(self) -> bool:
        """Whether the result is of another claim or other code."""
        r = self.result
        return r is not None and (r.fingerprint != self.fingerprint or r.expect != self.expect)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"stale": self.stale}


def verdicts(folder: Path = RESULTS) -> dict[str, list[dict[str, Any]]]:
    """By method: claim, verdict, mean and interval of each of its measured claims."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in listing(folder):
        r = entry.result
        if r is not None:
            found.setdefault(entry.method, []).append(
                {
                    "id": r.id,
                    "claim": r.claim,
                    "against": r.against,
                    "verdict": r.verdict,
                    "expect": r.expect.to_json(),
                    "mean": r.mean,
                    "interval": list(r.interval),
                    "seeds": len(r.runs),
                    "date": r.date,
                    "stale": entry.stale,
                    "differs": entry.differs,
                    "finding": entry.finding,
                }
            )
    return found


def listing(folder: Path = RESULTS) -> list[Listed]:
    """Every claim, by id, with its stored result; read off the sources, so nothing is imported."""
    found = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found += read_claims(f"{__package__}.{path.stem}", path.read_text(encoding="utf-8"), folder)
    return sorted(found, key=lambda entry: entry.id)


def result_file(id: str, folder: Path = RESULTS) -> Path:
    """Where the result of a claim lies."""
    return folder / f"{id}.json"


def read_record(id: str, folder: Path = RESULTS) -> Record | None:
    """The stored result of a claim, if there is one. Raises `CheckpointError` for a damaged file."""
    file = result_file(id, folder)
    if not file.exists():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"the file cannot be read: {error}", where=str(file), mend="delete it and run the claim again"
        ) from error
    return Record.from_json(data, str(file))


def read_claims(module: str, source: str, folder: Path = RESULTS) -> list[Listed]:
    """The claims that a module would register, read off its source."""
    if "@claim(" not in source:
        return []
    found = []
    for node in ast.parse(source).body:
        call = _decorator(node)
        if isinstance(node, ast.FunctionDef) and call is not None:
            found.append(_read(module, source, node, call, folder))
    return found


def _decorator(node: ast.stmt) -> ast.Call | None:
    for call in getattr(node, "decorator_list", []):
        if isinstance(call, ast.Call) and called_name(call) == "claim":
            return call
    return None


def _read(module: str, source: str, node: ast.FunctionDef, call: ast.Call, folder: Path) -> Listed:
    where = f"{module}, line {call.lineno}"
    values = {k.arg: _literal(k.value, where) for k in call.keywords}
    method = _literal(call.args[0], where)
    id = f"{method}.{node.name}"
    return Listed(
        id=id,
        method=method,
        name=node.name,
        against=values["against"],
        claim=(ast.get_docstring(node) or "").partition("\n")[0],
        expect=values["expect"],
        seeds=1 if values.get("exact") else values.get("seeds", 5),
        differs=values.get("differs", ""),
        finding=values.get("finding", ""),
        module=module,
        fingerprint=fingerprint(source, node.name),
        result=read_record(id, folder),
    )


def _literal(node: ast.expr, where: str) -> Any:
    return read_literal(node, where, {"higher": higher, "lower": lower, "within": within})


def fingerprint(source: str, name: str) -> str:
    """A hash of the code behind one claim of a module: its function and all that is no claim.

    Formatting, comments, docstrings and decorators do not count, nor do the module's other claims.
    """
    tree = ast.parse(source)
    tree.body = [n for n in tree.body if _decorator(n) is None or getattr(n, "name", "") == name]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef) and node.name == name:
            node.decorator_list = []
    return hashlib.sha256(json.dumps(_plain(tree)).encode()).hexdigest()[:16]


def _plain(node: object) -> object:
    """A syntax tree as plain data; without empty lists, which are what Python's versions differ in."""
    if isinstance(node, ast.AST):
        found = {name: _plain(value) for name, value in ast.iter_fields(node)}
        return [type(node).__name__, {name: value for name, value in found.items() if value != []}]
    return [_plain(one) for one in node] if isinstance(node, list) else repr(node)
