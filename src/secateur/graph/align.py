"""Which recorded operation is running: the n-th of its kind in its module."""

from collections import Counter
from collections.abc import Callable

from .ir import Graph, kind_of


class Alignment:
    """Follows a pass over a model whose graph was recorded before, perhaps on tensors of another kind.

    Masks are made by other means on real tensors than on fake ones, and a reshape copies or does not; so operations are
    counted by kind within their module, not over the whole pass.

    Attributes:
        ordinals: of each recorded node: the how many-th of its kind in its module it is.
        ran: the recorded nodes that came by.
    """

    def __init__(self, graph: Graph) -> None:
        self._numbers, self.ordinals = graph.alike
        self._seen: Counter[tuple[str, str]] = Counter()
        self.ran: set[int] = set()

    def candidates(self, module: str, op: str) -> list[int]:
        """The recorded nodes that the operation that runs now may be: the next of its kind, and those after it."""
        key = kind_of(module, op)
        return self._numbers.get(key, [])[self._seen[key] :]

    def take(self, module: str, op: str, number: int | None) -> None:
        """It is this one of the candidates; None: there was none."""
        if number is not None:
            self._seen[kind_of(module, op)] = self.ordinals[number] + 1
            self.ran.add(number)

    def next(self, module: str, op: str, fits: Callable[[int], bool]) -> int | None:
        """The first candidate that fits, or else the first one; taken."""
        candidates = self.candidates(module, op)
        number = next(filter(fits, candidates), next(iter(candidates), None))
        self.take(module, op, number)
        return number
