"""Verdicts of stored claims, for tables and cards."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def in_brief(claims: Sequence[Mapping[str, Any]]) -> str:
    """The verdict of a method with several claims: the common one, or how many of each; or "not measured"."""
    found = Counter(str(c["verdict"]) for c in claims)
    if not found:
        return "not measured"
    return next(iter(found)) if len(found) == 1 else ", ".join(f"{n} {verdict}" for verdict, n in found.items())


def in_a_line(claim: Mapping[str, Any]) -> str:
    """Verdict, claim and figures of one claim, what it was measured on, and what was found, as Markdown."""
    expect = claim["expect"]
    mean, low, high = (_figure(v, expect["relative"]) for v in (claim["mean"], *claim["interval"]))
    what = "difference" if expect["kind"] == "within" else "advantage"
    figures = f"{what} in {expect['metric']} {mean} on average, 95 % interval {low} to {high}"
    parts = [
        f"**{claim['verdict'].capitalize()}:** {claim['claim']}",
        f"*Measured against {claim['against']}: {figures}; {_seeds(claim['seeds'])}, {claim['date'][:10]}.*",
        claim["differs"],
        claim["finding"],
        "*The code has changed since.*" if claim["stale"] else "",
    ]
    return " ".join(part if part.endswith((".", "*")) else f"{part}." for part in parts if part)


def _figure(value: float, relative: bool) -> str:
    return f"{100 * value:.1f} %" if relative else f"{value:.4g}"


def _seeds(count: int) -> str:
    return "exact" if count == 1 else f"{count} seeds"
