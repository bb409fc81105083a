"""`secateur report`"""

from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[str], typer.Argument(help="Folders of `compare`, run folders, saved results, or folders that hold them.")
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="The HTML file; an older one is replaced.")
    ] = "report.html",
    json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write one self-contained HTML page: trade-offs, layers, overlap of masks, curves, all runs.

    Example: secateur report runs/compare -o report.html
    """
    from secateur.report import write_report

    from .output import print_json, progress

    with progress():
        path = write_report(runs, output)
    size = path.stat().st_size
    if json:
        print_json({"report": str(path), "bytes": size})
    else:
        print(f"report     {path} ({size / 1e6:.1f} MB)")
