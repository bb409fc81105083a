"""`secateur compare`"""

from typing import Annotated

import typer


def compare(
    model: Annotated[str, typer.Argument(help="As for `secateur prune`.")],
    task: Annotated[str, typer.Option("--task", "-t", help="builtin:NAME or file.py:factory.")],
    methods: Annotated[
        str, typer.Option("--methods", "-m", help='Ids with commas between them: "magnitude,gmp(end=0.6)".')
    ],
    sparsity: Annotated[
        str | None, typer.Option("--sparsity", "-s", help="Targets, with commas between them; default: 0.9.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many seeds.")] = 3,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="This seed instead; repeatable.")] = None,
    heal: Annotated[
        float | None, typer.Option("--heal", help="Epochs after the dense start; default: a third of the task's.")
    ] = None,
    recoveries: Annotated[
        str | None,
        typer.Option("--recoveries", help='With commas: "fine-tune,fine-tune+distill(weight=0.7),none".'),
    ] = None,
    budget: Annotated[
        str,
        typer.Option("--budget", help="equal: the same steps for all; own: --heal epochs in each leg, as in papers."),
    ] = "equal",
    small_dense: Annotated[
        bool, typer.Option("--small-dense", help="Also a dense model of equal size; for builtin models.")
    ] = False,
    narrow: Annotated[
        str | None,
        typer.Option("--narrow", help="file.py:factory of the width: --small-dense for a model of your own."),
    ] = None,
    scratch: Annotated[
        str | None,
        typer.Option(
            "--scratch",
            help='Also from new weights, what each method leaves: "e" as many epochs as the dense model, "b" as many '
            'MACs, "uniform" with the same share of every layer; with commas. For masks: "b(flops_model=ideal)".',
        ),
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
    engine: Annotated[
        str, typer.Option("--engine", help="processes, or ray: a Ray cluster (RAY_ADDRESS, or a local one).")
    ] = "processes",
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder of the cells; a second call goes on.")
    ] = "runs/compare",
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Compare methods x sparsities x recoveries x seeds under one protocol; save the best, and a report of all.

    Example: secateur compare builtin:digits-mlp -t builtin:digits -m magnitude,lamp -s 0.9 --seeds 1 --heal 1
    """
    import os
    import sys
    from pathlib import Path

    from secateur.core import split_outside
    from secateur.engine.compare import compare as run
    from secateur.report import write_report
    from secateur.report.table import print_comparison, write_tables

    from .output import print_json, progress
    from .parse import numbers

    default = None if structure is not None and ":" in structure else 0.9  # N:M says itself how much goes
    with progress():
        found = run(
            model,
            split_outside(methods, ","),
            sparsity=numbers(sparsity, "--sparsity") if sparsity is not None else default,
            task=task,
            seeds=seed or seeds,
            heal=heal,
            recoveries=None if recoveries is None else split_outside(recoveries, ","),
            budget=budget,  # type: ignore[arg-type]  # checked there
            small_dense=narrow or small_dense,
            scratch=[] if scratch is None else split_outside(scratch, ","),
            structure=structure,
            train=train,
            folder=output,
            workers=workers or os.cpu_count() or 1,
            engine=engine,  # type: ignore[arg-type]  # checked there
            device=device,
        )
    checked = _checked_in_a_fresh_process(Path(output) / "best", model) if found.best else None
    write_tables(found)
    page = write_report([output], Path(output) / "report.html")
    if json:
        summary = {"summary": found.summary(), "protocol": found.protocol, "left_out": found.left_out}
        print_json({"rows": found.rows, **summary, "best": found.best, "reloaded": checked, "report": str(page)})
    else:
        print_comparison(found, checked)
        print(f"report: {page}")
    for row in found.failed:
        print(f"failed: {row['label']} {row['sparsity']} seed {row['seed']}: {row['error']}", file=sys.stderr)
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
        lines = done.stderr.strip().splitlines() or ["it ended without a word"]
        reason = next((line for line in lines if line.startswith("error: ")), lines[-1])
        return {"identical": None, "reason": reason}
    return dict(json.loads(done.stdout)["verified"])
