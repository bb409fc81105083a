"""Verdicts of stored claims, for tables and cards."""

from collections.abc import Mapping, Sequence
from typing import Any


def in_one_word(claims: Sequence[Mapping[str, Any]]) -> str:
    """The verdict of a method with several claims: the common one, "mixed", or "not measured"."""
    found = {str(c["verdict"]) for c in claims}
    if not found:
        return "not measured"
    return found.pop() if len(found) == 1 else "mixed"


def in_a_line(claim: Mapping[str, Any]) -> str:
    """Verdict, claim and figures of one claim, what it was measured on, and what was found, as Markdown."""
    expect = claim["expect"]
    mean, low, high = (_figure(v, expect["relative"]) for v in (claim["mean"], *claim["interval"]))
    better = {"higher": "higher", "lower": "lower", "within": "difference"}[expect["kind"]]
    figures = f"{expect['metric']} {better} by {mean} on average, 95 % interval {low} to {high}"
    parts = [
        f"**{claim['verdict'].capitalize()}:** {claim['claim']}",
        f"*Measured against {claim['against']}: {figures}; {_seeds(claim['seeds'])}, {claim['date'][:10]}.*",
        claim["differs"],
        claim["finding"],
        "*The code has changed since.*" if claim["stale"] else "",
    ]
    return " ".join(part for part in parts if part)


def _figure(value: float, relative: bool) -> str:
    return f"{100 * value:.1f} %" if relative else f"{value:.4g}"


def _seeds(count: int) -> str:
    return "exact" if count == 1 else f"{count} seeds"
