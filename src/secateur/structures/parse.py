"""A structure as a user writes it: "weights", "2:4", "blocks 4x4"."""

import re

from secateur.core import RecipeError, Structure

from .channels import KINDS, Channels
from .layers import Layers
from .weights import NM, Blocks, Weights


def structure(text: str) -> Structure:
    """The structure that a short text names.

    Args:
        text: "weights", "N:M" such as "2:4", "RxC" such as "4x1" for blocks, "channels" for all coupled units, or some
            kinds of them: "heads", "heads,hidden"; "layers" for whole blocks, "sublayers" for the parts of them.

    Raises:
        RecipeError: it names none.
    """
    text = text.strip().lower()
    if text == "weights":
        return Weights()
    if text == "channels":
        return Channels()
    if text in ("layers", "sublayers"):
        return Layers(kinds=("sublayers",) if text == "sublayers" else ("blocks",))
    kinds = tuple(part.strip() for part in text.split(","))
    if all(kind in KINDS for kind in kinds):
        return Channels(kinds=kinds)
    if found := re.fullmatch(r"(\d{1,6}):(\d{1,6})", text):
        return NM(int(found[1]), int(found[2]))
    if found := re.fullmatch(r"(?:blocks?\s+)?(\d{1,6})x(\d{1,6})", text):
        return Blocks(int(found[1]), int(found[2]))
    raise RecipeError(
        f"{text!r} names no structure",
        where="structure",
        mend='write "weights", "2:4", "4x4", "channels", "heads,hidden" or "layers"',
    )
