"""`secateur energy`"""

from typing import Annotated

import typer


def energy(
    first: Annotated[str, typer.Argument(help="The dense model, named as for `secateur prune`.")],
    second: Annotated[str, typer.Argument(help="The other one, such as a saved folder.")],
    task: Annotated[str, typer.Option("--task", "-t", help="builtin:NAME or file.py:factory.")],
    country: Annotated[
        str, typer.Option("--country", help="Three letters, whose mix of electricity the CO2 is that of.")
    ],
    steps: Annotated[int, typer.Option("--steps", help="Steps of training in each half of a pair.")] = 100,
    pairs: Annotated[int, typer.Option("--pairs", help="How often both are measured, back to back.")] = 3,
    factory: Annotated[
        str | None, typer.Option("--factory", help="file.py:factory that builds a saved folder's class.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the energy that training takes, of one model against another, with codecarbon and without a network.

    Example: secateur energy builtin:digits-cnn builtin:digits-mlp --task builtin:digits --country FRA --steps 20
    """
    import dataclasses

    from secateur.engine.energy import training_energy
    from secateur.engine.sources import model_from, task_from

    from .output import print_json

    models = [model_from(name, factory=factory) for name in (first, second)]
    found = training_energy(models[0], models[1], task_from(task), steps=steps, country=country, pairs=pairs)
    if json:
        print_json(dataclasses.asdict(found))
    else:
        from secateur.report.energy import energy_text

        print(energy_text(found, (first, second)))
