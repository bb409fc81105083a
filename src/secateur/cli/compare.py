"""`secateur compare`"""

from typing import Annotated

import typer


def compare(
    model: Annotated[str, typer.Argument(help="As for `secateur prune`.")],
    task: Annotated[str, typer.Option("--task", "-t", help="builtin:NAME or file.py:factory.")],
    methods: Annotated[str, typer.Option("--methods", "-m", help="Ids, with commas between them.")],
    sparsity: Annotated[str, typer.Option("--sparsity", "-s", help="Targets, with commas between them.")] = "0.9",
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds.")] = 3,
    heal: Annotated[
        float | None, typer.Option("--heal", help="Epochs in each leg; default: a third of the task's.")
    ] = None,
    structure: Annotated[
        str | None, typer.Option("--structure", help='Instead of the methods\' own, e.g. "4x1".')
    ] = None,
    train: Annotated[
        bool | None,
        typer.Option(
            "--train/--trained", help="Whether the model must be trained first; default: builtin models only."
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", help="Processes; 0 for one per core.")] = 0,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder of the cells; a second call goes on.")
    ] = "runs/compare",
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Compare methods x sparsities x seeds under one protocol; save and check the best.

    Example: secateur compare builtin:digits-mlp -t builtin:digits -m magnitude,lamp -s 0.9 --seeds 1 --heal 1
    """
    import os
    import sys
    from pathlib import Path

    from secateur.engine.compare import compare as run
    from secateur.report.table import print_comparison, write_tables

    from .output import print_json, progress
    from .parse import numbers

    with progress():
        found = run(
            model,
            [m.strip() for m in methods.split(",") if m.strip()],
            sparsity=numbers(sparsity, "--sparsity"),
            task=task,
            seeds=seeds,
            heal=heal,
            structure=structure,
            train=train,
            folder=output,
            workers=workers or os.cpu_count() or 1,
            device=device,
        )
    checked = _checked_in_a_fresh_process(Path(output) / "best", model) if found.best else None
    write_tables(found)
    if json:
        print_json({"rows": found.rows, "summary": found.summary(), "best": found.best, "reloaded": checked})
    else:
        print_comparison(found, checked)
    for row in found.failed:
        print(f"failed: {row['method']} {row['sparsity']} seed {row['seed']}: {row['error']}", file=sys.stderr)
    if found.failed or (checked is not None and checked.get("identical") is False):
        raise typer.Exit(1)


def _checked_in_a_fresh_process(folder: object, model: str) -> dict[str, object]:
    """Reload the saved model where nothing of this process is left, and compare its outputs.

    A model of the user's own file is built by the factory that the user named.
    """
    import json
    import subprocess
    import sys

    command = [sys.executable, "-m", "secateur", "inspect", str(folder), "--verify", "--json"]
    command += ["--factory", model] if ".py:" in model else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it ended without a word"])[0]
        return {"identical": None, "reason": reason}
    return dict(json.loads(done.stdout)["verified"])
