"""Lists on the command line."""

from secateur.core.errors import RecipeError


def numbers(text: str, option: str) -> list[float]:
    """`"0.5, .9"` as numbers. Raises `RecipeError` for anything else."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise RecipeError(
            f"{text!r} is no list of numbers", where=option, mend="write numbers with commas: 0.8,0.9"
        ) from None
