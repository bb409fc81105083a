"""A structure as a user writes it: "weights", "2:4", "blocks 4x4"."""

import re

from secateur.core import RecipeError, Structure

from .weights import NM, Blocks, Weights


def structure(text: str) -> Structure:
    """The structure that a short text names.

    Args:
        text: "weights", "N:M" such as "2:4", or "RxC" such as "4x1" for blocks.

    Raises:
        RecipeError: it names none.
    """
    text = text.strip().lower()
    if text == "weights":
        return Weights()
    if found := re.fullmatch(r"(\d{1,6}):(\d{1,6})", text):
        return NM(int(found[1]), int(found[2]))
    if found := re.fullmatch(r"(?:blocks?\s+)?(\d{1,6})x(\d{1,6})", text):
        return Blocks(int(found[1]), int(found[2]))
    raise RecipeError(f"{text!r} names no structure", where="structure", mend='write "weights", "2:4" or "4x4"')
