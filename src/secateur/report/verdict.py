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
    """Verdict, claim and figures of one claim, as Markdown."""
    low, high = claim["interval"]
    figures = f"{claim['metric']} {claim['mean']:+.4g}, 95 % interval {low:+.4g} to {high:+.4g}"
    stale = " *The code has changed since.*" if claim["stale"] else ""
    return (
        f"**{claim['verdict'].capitalize()}:** {claim['claim']} "
        f"*Measured against {claim['against']}: {figures}, {claim['seeds']} seeds, {claim['date'][:10]}.*{stale}"
    )
