"""Every error a user meets: what went wrong, where, and how to mend it."""

import difflib
from collections.abc import Iterable


class SecateurError(Exception):
    """Base of all our errors: what went wrong, where, and how to mend it."""

    def __init__(self, what: str, *, where: str, mend: str) -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(f"{what}\n  where: {where}\n  mend:  {mend}")


class RecipeError(SecateurError, ValueError):
    """An argument or a combination of arguments makes no sense."""


class SubjectError(SecateurError, TypeError):
    """This model, graph or data set cannot be pruned so."""


def does_not_run(subject: object, error: Exception, module: str = "") -> SubjectError:
    """The error for an example that a subject does not run on, and the path of the module where it failed."""
    told = (str(error).splitlines() or [type(error).__name__])[0][:300]
    return SubjectError(
        f"the model does not run on the example: {told}",
        where=f"{type(subject).__name__}.forward" + (f", module {module!r}" if module else ""),
        mend="pass an example that it accepts, in the form in which it takes its inputs",
    )


class BudgetError(SecateurError, ValueError):
    """The target cannot be met: floors, multiples, N:M, layer collapse."""


class NumericsError(SecateurError, ArithmeticError):
    """The mathematics is singular or not finite: NaN weights or scores, a matrix that has no inverse."""


class CheckpointError(SecateurError, OSError):
    """A saved result or a run folder is damaged, foreign or too new."""


class MissingExtra(SecateurError, ImportError):
    """An optional dependency is not installed."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest valid one, or the list of all.

    Args:
        name: what the user wrote.
        valid: the names that would have been right.
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(names)}"


def require(package: str, *, extra: str, where: str) -> None:
    """Raise `MissingExtra`, naming the extra, unless an optional package can be imported."""
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise MissingExtra(
            f"the package {package!r} is not installed", where=where, mend=f'pip install "secateur[{extra}]"'
        )
