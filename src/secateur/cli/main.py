"""The command `secateur`: its commands, how errors and Ctrl-C end."""

import logging
import os
import sys

import typer

from secateur.core.errors import RecipeError, SecateurError

from .analyze import analyze
from .card import card
from .claims import claims
from .compare import compare
from .energy import energy
from .evaluate import evaluate
from .export import export
from .inspect import inspect
from .methods import methods
from .prune import prune
from .report import report
from .run import run_recipe

app = typer.Typer(
    name="secateur",
    help="Prune everything in deep learning: find what can go, remove it, heal, prove it right, save it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (prune, export, compare, report, inspect, evaluate, energy, methods, card):
    app.command(command.__name__)(command)
app.command("run")(run_recipe)
app.add_typer(analyze, name="analyze")
app.add_typer(claims, name="claims")


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    """Prune everything in deep learning. Example: secateur methods"""
    if version:
        from secateur._version import __version__

        print(__version__)
        raise typer.Exit


# the base of typer's usage errors, which typer itself does not export
_USAGE: type[Exception] = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")
_INTERRUPTED = 130


def run() -> None:
    """Entry point. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:  # typer turns Ctrl-C into this code without a word
            raise KeyboardInterrupt
        _leave(code if isinstance(code, int) else 0)
    except _USAGE as error:
        error.show()  # type: ignore[attr-defined]
        _leave(2)
    except RecipeError as error:
        _fail(error, 2)
    except SecateurError as error:
        _fail(error, 1)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; the same command goes on where a run folder was given", file=sys.stderr)
        _leave(_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(error: SecateurError, code: int) -> None:
    print(f"error: {error}", file=sys.stderr)
    _leave(code)


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
