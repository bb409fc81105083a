"""`secateur run`"""

from typing import Annotated

import typer


def run_recipe(
    recipe: Annotated[str, typer.Argument(help="A YAML file.")],
    output: Annotated[str | None, typer.Option("--output", "-o", help="Instead of the file's own output.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the file; run nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the measures as JSON.")] = False,
) -> None:
    """Run a recipe file.

    Example: secateur run examples/gmp.yaml --check
    """
    from secateur.engine.recipe_file import read_recipe

    from .output import print_json, progress
    from .work import check_output, prune_and_save

    loaded = read_recipe(recipe)
    if check:
        print_json({"valid": True}) if json else print(f"{recipe} is a valid recipe")
        return
    file = loaded.file
    target = output or file.output
    check_output(target)
    with progress():
        found = prune_and_save(
            model=file.model,
            method=loaded.method,
            settings=dict(loaded.settings),
            output=target,
            sparsity=file.sparsity,
            keep=file.keep,
            macs=file.macs,
            params=file.params,
            bytes=file.bytes,
            latency=file.latency,
            task=file.task,
            shape=file.input,
            structure=file.structure,
            heal=file.heal,
            recovery=file.recovery,
            factory=file.factory,
            run=file.run,
            seed=file.seed,
            device=file.device,
            mixed_precision=file.mixed_precision,
        )
    if json:
        print_json(found)
    else:
        from secateur.report.table import result_text

        print(result_text(found))
