"""What goes when units go: they, what only scales their zeros, and whatever served nobody else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from secateur.core.depth import Place, Skip

from .flow import Flow
from .ir import Graph, ModuleCall
from .residual import Def, Streams, Unit
from .rules import RULES


@dataclass(frozen=True, eq=False)
class Removal:
    """What computes nothing any more when some units go.

    Attributes:
        units: those that were asked for, without the ones that lie in others.
        skips: what stands in the place of each module that goes, the units and whatever served only them.
    """

    units: tuple[Unit, ...]
    skips: dict[str, Skip]
    calls: tuple[ModuleCall, ...]

    def covers(self, number: int) -> bool:
        """Whether a recorded node would not run."""
        return any(call.begin <= number < call.end for call in self.calls)

    def holds(self, path: str) -> bool:
        """Whether a module or a tensor of this name would go."""
        return any(path == gone or path.startswith(f"{gone}.") for gone in self.skips)


def removal(streams: Streams, units: Iterable[Unit], *, with_idle: bool = True) -> Removal:
    """What goes with these units.

    Args:
        with_idle: also the modules whose every value is only read in what goes: the norm before an attention.
    """
    units = list(units)
    paths = {unit.module for unit in units}
    units = [u for u in units if not any(u.module.startswith(f"{path}.") for path in paths)]
    skips = {unit.module: _skip(unit.call, unit.made, unit.argument, zeros=unit.zeros) for unit in units}
    needed = {unit.call.given[unit.argument] for unit in units}
    calls = [unit.call for unit in units]
    for behind in (after for unit in units for after in unit.after):
        if behind.module not in skips:
            skips[behind.module] = _skip(behind.call, behind.made, behind.argument)
            calls.append(behind.call)
    if with_idle:
        passed = {unit.call.given[unit.argument] for unit in units if not unit.zeros}
        _add_idle(streams, calls, skips, needed, passed)
    return Removal(tuple(units), skips, tuple(calls))


def _skip(call: ModuleCall, made: Def, argument: Place, *, zeros: bool = False) -> Skip:
    """The module replaced: what it makes becomes the argument, what it passes on stays, anything else is None."""
    assert call.gave is not None
    gives = tuple(argument if value == made[0] else back for value, back in zip(call.gave, call.back, strict=True))
    return Skip(call.module, gives, call.alone, zeros)


def _add_idle(
    streams: Streams, calls: list[ModuleCall], skips: dict[str, Skip], needed: set[int], passed: set[int]
) -> None:
    """Add the modules whose every value is only read in what goes already, the last first.

    Args:
        needed: values whose shape is still looked at.
        passed: values that are passed on, and so are read elsewhere.
    """
    gone = {number for call in calls for number in range(call.begin, call.end)}
    ending: dict[int, list[ModuleCall]] = {}
    for call in sorted(streams.calls.values(), key=lambda c: c.module.count(".")):
        ending.setdefault(call.end - 1, []).append(call)
    for number in reversed(range(len(streams.graph.nodes))):
        for call in ending.get(number, ()):
            span = range(call.begin, call.end)
            made = streams.given(call) if call.module and call.gave is not None and gone.isdisjoint(span) else []
            if not _idle(streams, made, span, gone, passed):
                continue
            argument = _stand_in(streams, call, made, needed)
            if argument is not None:
                skips[call.module] = _skip(call, made[0], argument)
                needed.add(call.given[argument])
                calls.append(call)
                gone.update(span)
        if number not in gone and streams.keeps_place(number):  # it still runs, on whatever comes
            made = streams.makes[number]
            if _idle(streams, made, range(number, number + 1), gone, passed):
                gone.add(number)
                if not needed.isdisjoint(v for v, _ in made):
                    needed.add(streams.reads[number][0][0])


def _idle(streams: Streams, made: Sequence[Def], span: range, gone: set[int], passed: set[int]) -> bool:
    """Whether what is made is read, and only in what goes."""
    readers = {r for d in made for r in streams.readers.get(d, ()) if r not in span}
    return bool(readers) and readers <= gone and passed.isdisjoint(v for v, _ in made) and not streams.told(made)


def _stand_in(streams: Streams, call: ModuleCall, made: Sequence[Def], needed: set[int]) -> Place | None:
    """The argument to give back: of the output's shape, or any where nobody looks at it."""
    if len(made) == 1 and (alike := streams.alike(call, made[0])) is not None:
        return alike
    return next(iter(call.given), None) if needed.isdisjoint(v for v, _ in made) else None


def products(graph: Graph) -> list[tuple[int, int]]:
    """The multiplications of a recorded pass: the node, and how many."""
    found = Flow(graph, RULES).run().notes.products
    return [(node, prod(size for size, _ in factors)) for node, factors in found]
