"""`secateur analyze`"""

from typing import Annotated

import typer

analyze = typer.Typer(
    help="Study what pruning does to a model. Example: secateur analyze pruning-space --help",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@analyze.callback()
def studies() -> None:
    """Study what pruning does to a model. Example: secateur analyze pruning-space --help"""


@analyze.command("pruning-space")
def pruning_space(
    model: Annotated[str, typer.Argument(help="As for `secateur prune`; trained.")],
    task: Annotated[str, typer.Option("--task", "-t", help="builtin:NAME or file.py:factory.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder of the samples and the page; the same command goes on there.")
    ],
    share: Annotated[float, typer.Option("--share", help="Of the cost, that stays.")] = 0.5,
    cost: Annotated[str, typer.Option("--cost", help="macs, params or bytes.")] = "macs",
    samples: Annotated[int, typer.Option("--samples", "-n", help="How many widths are drawn and measured.")] = 60,
    steps: Annotated[int, typer.Option("--steps", help="Training steps for each.")] = 60,
    recalibrate: Annotated[int, typer.Option("--recalibrate", help="Batches to measure batch norms on.")] = 4,
    least: Annotated[float, typer.Option("--least", help="Share of each family that stays at least.")] = 0.1,
    factory: Annotated[
        str | None, typer.Option("--factory", help="file.py:factory that builds a saved folder's class.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every random choice.")] = 0,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Draw widths that all cost the same, measure each, and show how the error depends on MACs for each parameter.

    Example: secateur analyze pruning-space builtin:digits-cnn --task builtin:digits -n 6 --steps 5 -o space/
    """
    from pathlib import Path

    from secateur.engine.rng import seeded
    from secateur.engine.sources import model_from, task_from
    from secateur.engine.spaces import pruning_space as study
    from secateur.report import write_space

    from .output import print_json, progress

    with progress(), seeded(seed):
        found = study(
            model_from(model, factory=factory),
            task_from(task),
            share=share,
            cost=cost,
            samples=samples,
            steps=steps,
            recalibrate=recalibrate,
            least=least,
            seed=seed,
            folder=output,
            device=device,
        )
    page = write_space(found, Path(output) / "pruning-space.html", f"{model}, {share:.0%} of the {cost}")
    summary = found.summary() | {"page": str(page)}
    if json:
        print_json(summary)
    else:
        for name, value in summary.items():
            print(f"{name.replace('_', ' '):<22} {value if not isinstance(value, float) else format(value, '.4g')}")
