"""`secateur claims`"""

from typing import Annotated

import typer

claims = typer.Typer(
    help="The papers' claims, measured. Example: secateur claims list", no_args_is_help=True, rich_markup_mode=None
)


@claims.command("list")
def list_claims(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List claims, verdicts and figures.

    Example: secateur claims list
    """
    from secateur.claims.store import listing

    from .output import print_json

    rows = listing()
    if json:
        print_json([row.to_json() for row in rows])
        return
    for row in rows:
        verdict = row.result.verdict if row.result is not None else "not measured"
        print(f"{row.id:<40} {verdict + (' (stale)' if row.stale else ''):<15} {row.claim}")


@claims.command("run")
def run_claim(
    id: Annotated[str, typer.Argument(help="A claim's id, or a method's for all of its claims.")],
    again: Annotated[bool, typer.Option("--again", help="Even if the result is there.")] = False,
    workers: Annotated[int, typer.Option("--workers", "-w", help="Processes; seeds run side by side.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the stored result as JSON.")] = False,
) -> None:
    """Measure a method's claims again and store the result.

    Example: secateur claims run imp
    """
    from secateur.claims.run import run_claim as run

    from .output import print_json, progress

    with progress():
        found = run(id, workers=workers, again=again)
    if json:
        print_json([record.to_json() for record in found])
        return
    for record in found:
        low, high = record.interval
        print(f"{record.id}: {record.verdict}\n  {record.claim}")
        print(f"  {record.expect.metric} {record.mean:+.4g}, 95 % interval {low:+.4g} to {high:+.4g}")
