"""The decorator that makes a function a claim."""

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secateur.core import RecipeError, nearest

from .store import fingerprint, listing
from .verdict import Expect

if TYPE_CHECKING:
    from secateur.engine.result import Result

Measures = Mapping[str, Any]
Measure = Callable[[int, str], "Measures | Result"]
"""`(seed, side) -> measures`; the side is the method's id or the claim's `against`."""


@dataclass(frozen=True)
class Claim:
    """A falsifiable sentence of a paper, and the function that measures both of its sides.

    Attributes:
        method: the id of the method it is about.
        name: the function's name; `method.name` is the claim's id.
        against: what it is compared with: a method's id, or a word for a baseline.
        sentence: what is claimed.
        expect: what would bear it out.
        seeds: how many paired seeds; 1 for an exact claim, where nothing is random.
        differs: data, model or length where they are not those of the paper.
        measure: gives the measures of one side for one seed.
        fingerprint: a hash of the code that measures it; results of other code are not mixed with this one's.
    """

    method: str
    name: str
    against: str
    sentence: str
    expect: Expect
    seeds: int
    differs: str
    measure: Measure
    fingerprint: str

    @property
    def id(self) -> str:
        """`method.name`."""
        return f"{self.method}.{self.name}"


_loaded: dict[str, Claim] = {}


def claim(
    method: str,
    *,
    against: str,
    expect: Expect,
    seeds: int = 5,
    exact: bool = False,
    differs: str = "",
    finding: str = "",  # noqa: ARG001 - read off the source by `store.listing`
) -> Callable[[Measure], Measure]:
    """Register a function as a claim; its docstring's first line is the sentence claimed.

    The arguments must be literals (and `higher(...)`, `lower(...)`, `within(...)`): claims are listed without running.
    `expect` is committed before the first result and stays.

    Args:
        method: the method's id.
        against: the other side.
        expect: what would bear the claim out.
        seeds: how many paired seeds.
        exact: nothing is random, so one run decides.
        differs: where data, model or length are not those of the paper.
        finding: after the run: why it came out as it did. It changes no figure.
    """

    def register(measure: Measure) -> Measure:
        sentence = (inspect.getdoc(measure) or "").partition("\n")[0]
        where = f"@claim({method!r}) on {measure.__name__}"
        if not sentence:
            raise RecipeError("it claims nothing", where=where, mend="the docstring's first line is the claim")
        if seeds < 2 and not exact:
            raise RecipeError(f"seeds is {seeds}: no interval", where=where, mend="5 or more, or exact=True")
        code = fingerprint(inspect.getsource(sys.modules[measure.__module__]), measure.__name__)
        count = 1 if exact else seeds
        made = Claim(method, measure.__name__, against, sentence, expect, count, differs, measure, code)
        _loaded[made.id] = made
        return measure

    return register


def get(id: str) -> Claim:
    """The claim of that id; its module is imported now. Raises `RecipeError`, naming the nearest, if there is none."""
    if id not in _loaded:
        known = {entry.id: entry.module for entry in listing()}
        if id not in known:
            raise RecipeError(f"there is no claim {id!r}", where="claim", mend=nearest(id, known))
        importlib.import_module(known[id])
    return _loaded[id]


def resolve(id: str) -> list[str]:
    """The ids of the claims that a claim's id, or a method's, stands for. Raises `RecipeError` for an unknown one."""
    known = {entry.id: entry.method for entry in listing()} | {c.id: c.method for c in _loaded.values()}
    if id in known:
        return [id]
    found = sorted(name for name, method in known.items() if method == id)
    if not found:
        raise RecipeError(f"there is no claim {id!r}", where="claim", mend=nearest(id, {*known, *known.values()}))
    return found
