"""`secateur inspect`"""

from typing import Annotated

import typer


def inspect(
    model: Annotated[str, typer.Argument(help="As for `secateur prune`.")],
    structure: Annotated[
        bool, typer.Option("--structure", help="Show what can be cut out in one piece: channels, heads, hidden units.")
    ] = False,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Runs the model on a sample of this task.")] = None,
    shape: Annotated[
        str | None,
        typer.Option("--input", help="Runs the model on an input of this shape: 1,3,32,32; tokens: 1,16."),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check a saved folder against its stored output.")] = False,
    factory: Annotated[
        str | None, typer.Option("--factory", help="file.py:factory that builds a saved folder's class.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a model's layers: shape, sparsity, MACs, share of the parameters. Or, with --structure, what can be cut out.

    Example: secateur inspect builtin:digits-cnn --input 1,1,8,8
    """
    import dataclasses

    from secateur.core.costs import layers
    from secateur.engine.families import families_of
    from secateur.engine.sources import call_factory, model_from
    from secateur.engine.verify import verify as check

    from .example import example_for
    from .output import print_json

    found: dict[str, object] = {}
    if verify:
        found["verified"] = check(model, factory=None if factory is None else lambda: call_factory(factory))
    subject = model_from(model, factory=factory)
    example, call = example_for(subject, model, task, shape)
    if structure:
        offered = families_of(subject, example, call)
        found["structure"] = dataclasses.asdict(offered)
    else:
        rows = layers(subject, example, call)
        found["layers"] = [{**dataclasses.asdict(r), "sparsity": r.sparsity} for r in rows]
    if json:
        print_json(found)
    else:
        from secateur.report.table import print_families, print_layers

        name = type(subject).__name__
        print_families(name, offered) if structure else print_layers(name, rows)
        if verify:
            print(f"reloaded outputs identical: {found['verified']}")
    if verify and not found["verified"]["identical"]:  # type: ignore[index]
        raise typer.Exit(1)
