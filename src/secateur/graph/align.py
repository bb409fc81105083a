"""Which recorded operation is running: the n-th of its kind in its module."""

from collections import Counter

from .ir import Graph

_KINDS = {"_unsafe_view": "view", "_reshape_alias": "view"}


class Alignment:
    """Follows a pass over a model whose graph was recorded before, perhaps on tensors of another kind.

    Masks are made by other means on real tensors than on fake ones, and a reshape copies or does not; so operations are
    counted by kind within their module, not over the whole pass.

    Attributes:
        ordinals: of each recorded node: the how many-th of its kind in its module it is.
    """

    def __init__(self, graph: Graph) -> None:
        counted: Counter[tuple[str, str]] = Counter()
        self._numbers: dict[tuple[str, str, int], int] = {}
        self.ordinals: list[int] = []
        for number, node in enumerate(graph.nodes):
            key = (node.module, _KINDS.get(node.op, node.op))
            self._numbers[(*key, counted[key])] = number
            self.ordinals.append(counted[key])
            counted[key] += 1
        self._seen: Counter[tuple[str, str]] = Counter()
        self.ran: set[int] = set()

    def number(self, module: str, op: str) -> int | None:
        """The recorded node of the operation that runs now; None where none was recorded."""
        key = (module, _KINDS.get(op, op))
        found = self._numbers.get((*key, self._seen[key]))
        self._seen[key] += 1
        if found is not None:
            self.ran.add(found)
        return found
