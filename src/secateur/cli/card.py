"""`secateur card`"""

from typing import Annotated

import typer


def card(
    id: Annotated[str, typer.Argument(help="A method's id; `secateur methods` lists them.")],
    json: Annotated[bool, typer.Option("--json", help="Print the registry entry as JSON.")] = False,
) -> None:
    """Show a method's card: what it is, what was measured, when to use it.

    Example: secateur card gmp
    """
    from secateur.report.card import card_json, card_markdown

    from .output import print_json

    if json:
        print_json(card_json(id))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(card_markdown(id)))
