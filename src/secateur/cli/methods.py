"""`secateur methods`"""

from typing import Annotated

import typer


def methods(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every registered method.

    Example: secateur methods
    """
    from secateur.claims.store import verdicts
    from secateur.core import registry
    from secateur.report.verdict import in_brief

    from .output import print_json

    entries, found = registry.entries(), verdicts()
    rows = [{**e.to_json(), "verdict": in_brief(found.get(id, []))} for id, e in entries.items()]
    if json:
        print_json(rows)
        return
    width = max((len(id) for id in entries), default=0)
    for row in rows:
        print(f"{row['id']:<{width}}  {row['when']:<7} {row['year']}  {row['verdict']:<20} {row['summary']}")
