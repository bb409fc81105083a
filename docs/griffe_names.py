"""For the reference: `include, exclude: patterns` in a docstring speaks of two arguments, which griffe reads as one."""

import re

import griffe

_SECTION = re.compile(r"^( *)(Args|Attributes):\n((?:\1 +.*\n?|\n)*)", flags=re.M)
_TOGETHER = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", flags=re.M)


def apart(docstring: str) -> str:
    """The docstring with an entry for each name, all with the same text."""
    return _SECTION.sub(lambda section: _TOGETHER.sub(_each, section[0]), docstring)


def _each(entry: re.Match[str]) -> str:
    return "\n".join(f"{entry[1]}{name}: {entry[3]}" for name in entry[2].split(", "))


class Names(griffe.Extension):
    """Every docstring as `apart` has it."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Called once for each object that is read."""
        if obj.docstring is not None:
            obj.docstring.value = apart(obj.docstring.value)
