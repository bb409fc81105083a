"""Method cards: facts from the registry, figures from stored claims, prose from `docs/cards`."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from secateur.claims.store import verdicts
from secateur.core import registry
from secateur.core.errors import RecipeError, nearest
from secateur.core.registry import Entry

from .verdict import in_a_line


def card_json(id: str) -> dict[str, Any]:
    """The registry entry and the stored claims as plain data. Raises `RecipeError` for an unknown id."""
    return {**_entry(id).to_json(), "claims": verdicts().get(id, [])}


def card_markdown(id: str) -> str:
    """The card as Markdown. Raises `RecipeError` for an unknown id."""
    entry = _entry(id)
    paper = entry.paper
    parts = [f"# {entry.id} · {entry.when.value} training · {entry.structure} · {paper.authors}, {paper.year}"]
    parts.append(_verdicts(id))
    prose = _prose(id)
    parts.append(prose if prose else f"**In a sentence.** {entry.summary}")
    if entry.parameters:
        rows = "\n".join(f"| `{p.name}` | `{p.type}` | `{p.default}` |" for p in entry.parameters)
        parts.append(f"| setting | type | default |\n|---|---|---|\n{rows}".replace(" | None", " \\| None"))
    models = ", ".join(entry.models)
    parts.append(f"**Data.** {entry.data}. **Models.** {models}. **Starts from** {entry.start} weights.")
    parts.append(f"**Paper.** {paper.title}. {paper.authors}, {paper.year}. <{paper.url}>")
    return "\n\n".join(p for p in parts if p) + "\n"


def _entry(id: str) -> Entry:
    entries = registry.entries()
    if id not in entries:
        raise RecipeError(f"there is no method {id!r}", where="card", mend=nearest(id, entries))
    return entries[id]


def _verdicts(id: str) -> str:
    claims = verdicts().get(id, [])
    return "\n\n".join(map(in_a_line, claims)) if claims else "**Not measured yet.**"


def _prose(id: str) -> str:
    """The hand-written part: shipped with the package, or beside the source tree."""
    for place in (files("secateur") / "cards", Path(__file__).parents[3] / "docs" / "cards"):
        file = place / f"{id}.md"
        if file.is_file():
            return file.read_text(encoding="utf-8").strip()
    return ""
