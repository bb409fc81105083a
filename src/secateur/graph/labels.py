"""The algebra of labels: which positions of which dimensions vanish together.

Every position of a dimension carries a *set of factors*, and vanishes if any of them is removed. An array `[n, k]` of
integers holds the sets, 0 where a set is smaller than k; `None` is a dimension of positions that never vanish, such as
batch, time and space. Factors start as one atom for each position of a parameter. Operations then say that two
dimensions are one (`equate`), that a dimension is the product of two (`merged`, `split`), or that its positions must
stay (`freeze`, which makes a factor 0: what is never removed needs no label). All that they learn lies in two tables: a
union-find, and for atoms that turned out to be composite, what they consist of. Nothing is ever learnt wrongly: where
the algebra knows no exact answer it joins factors, which then only vanish together, or freezes them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int32]
Dim = Labels | None
_ROUNDS = 12
_MOST_KNOWN = 4096


class Algebra:
    """Factors, what is known of them, and the operations on dimensions that teach it.

    Attributes:
        version: grows with everything that is learnt; a pass that leaves it alone is the last one.
    """

    def __init__(self) -> None:
        self.version = 0
        self._parent = np.zeros(1024, np.int32)
        self._parts = np.zeros((1024, 2), np.int32)
        self._size = 1  # 0 is nobody
        self._composite = False
        self._known: dict[int, tuple[Labels, Labels]] = {}
        self._known_at = 0
        self._hash = np.random.default_rng(0).integers(1, 1 << 62, 1 << 12, dtype=np.int64)

    def fresh(self, count: int) -> Labels:
        """So many positions of one new atom each, `[count, 1]`."""
        first = self._size
        self._size += count
        while self._size > len(self._parent):
            self._parent = np.concatenate([self._parent, np.zeros_like(self._parent)])
            self._parts = np.concatenate([self._parts, np.zeros_like(self._parts)])
        atoms = np.arange(first, self._size, dtype=np.int32)
        self._parent[first : self._size] = atoms
        return atoms[:, None]

    def resolve(self, labels: Labels) -> Labels:
        """The same sets in the factors of today: sorted, without repeats, without empty columns."""
        if self._known_at != self.version or len(self._known) > _MOST_KNOWN:
            self._known.clear()
            self._known_at = self.version
        known = self._known.get(id(labels))
        if known is None:
            found = self._resolved(labels)
            self._known[id(labels)] = labels, found  # what is held keeps its id
            self._known[id(found)] = found, found
            return found
        return known[1]

    def _resolved(self, labels: Labels) -> Labels:
        found = self._roots(labels)
        while self._composite:
            parts = self._parts[found]
            composite = parts[:, :, 0] > 0
            if not composite.any():
                break
            own = np.where(composite, 0, found)
            found = _tidy(self._roots(np.concatenate([own, parts.reshape(len(found), -1)], 1)))
        return _tidy(found)

    def _roots(self, labels: Labels) -> Labels:
        found = self._parent[labels]
        while True:
            up = self._parent[found]
            if np.array_equal(up, found):
                return found
            found = up

    def unite(self, a: Labels, b: Labels) -> None:
        """The factors `a[i]` and `b[i]` are one, for every i; flat, resolved."""
        while True:
            x, y = self._roots(a), self._roots(b)
            differ = x != y
            if not differ.any():
                return
            np.minimum.at(self._parent, np.maximum(x, y)[differ], np.minimum(x, y)[differ])
            self.version += 1

    def last_of(self, factor: int) -> int:
        """The last factor that this one was before it was frozen; 0 where it never was."""
        while self._parent[factor] != factor:
            if self._parent[factor] == 0:
                return factor
            factor = int(self._parent[factor])
        parts = self._parts[factor]
        return next((last for part in parts[parts > 0].tolist() if (last := self.last_of(part))), 0)

    def stays_put(self, labels: Labels) -> NDArray[np.bool_]:
        """Which of these positions never vanish."""
        now = self.resolve(labels)
        stay: NDArray[np.bool_] = np.ones(len(labels), bool)
        return stay if not now.shape[1] else np.asarray(~(now > 0).any(1), bool)

    @property
    def size(self) -> int:
        """How many factors there are, 0 included."""
        return self._size

    def freeze(self, labels: Dim) -> None:
        """None of these positions may ever vanish."""
        if labels is not None:
            flat = self.resolve(labels).reshape(-1)
            self.unite(flat, np.zeros_like(flat))

    def refine(self, atoms: Labels, parts: Labels) -> None:
        """Each of these different atoms consists of the factors of its row; none of them is among its own parts."""
        missing = parts.shape[1] - self._parts.shape[1]
        if missing > 0:
            self._parts = np.concatenate([self._parts, np.zeros((len(self._parts), missing), np.int32)], 1)
        self._parts[atoms, : parts.shape[1]] = -np.sort(-parts, 1)  # the first one tells whether there are any
        self._composite = True
        self.version += 1

    def equate(self, a: Dim, b: Dim) -> Dim:
        """Two dimensions of equal length are one; gives its labels."""
        if a is None or b is None:
            self.freeze(a)
            self.freeze(b)
            return None
        assert len(a) == len(b), (len(a), len(b))
        for _ in range(_ROUNDS):
            a, b = self.resolve(a), self.resolve(b)
            if a.shape == b.shape and np.array_equal(a, b):
                return a if a.shape[1] else None
            if a.shape[1] == b.shape[1] == 1:
                self.unite(a[:, 0], b[:, 0])
                continue
            before = self.version
            self._match(a, b)
            if self.version == before:
                self._settle(a, b)
        self.freeze(a)
        self.freeze(b)
        return None

    def _match(self, a: Labels, b: Labels) -> None:
        """Unite factors of the two sides that lie at the same positions."""
        names_a, where_a = self._signatures(a)
        names_b, where_b = self._signatures(b)
        _, i, j = np.intersect1d(where_a, where_b, return_indices=True)
        self.unite(names_a[i], names_b[j])

    def _signatures(self, labels: Labels) -> tuple[Labels, NDArray[np.int64]]:
        """Each factor, and a hash of the positions at which it lies."""
        while len(self._hash) < len(labels):
            self._hash = np.concatenate([self._hash, self._hash * 6364136223846793005 + 1442695040888963407])
        flat = labels.reshape(-1)
        weight = np.repeat(self._hash[: len(labels)], labels.shape[1])
        names, place = np.unique(flat[flat > 0], return_inverse=True)
        found = np.zeros(len(names), np.int64)
        np.add.at(found, place, weight[flat > 0])
        return names, found

    def _settle(self, a: Labels, b: Labels) -> None:
        """Where sets still differ: refine a lone atom, unite two, freeze what has no counterpart."""
        only_a, only_b = _without(a, b), _without(b, a)
        left, right = (only_a > 0).sum(1), (only_b > 0).sum(1)
        lonely = (left == 0) != (right == 0)
        if lonely.any():
            self.freeze(only_a[lonely])
            self.freeze(only_b[lonely])
            return
        pairs = (left == 1) & (right == 1)
        if pairs.any():
            self.unite(only_a[pairs].max(1), only_b[pairs].max(1))
            return
        for one, many, rows in (
            (only_a, only_b, (left == 1) & (right > 1)),
            (only_b, only_a, (right == 1) & (left > 1)),
        ):
            if rows.any():
                self._refine_or_join(one[rows].max(1), many[rows])
                return
        rows = (left > 1) & (right > 1)
        self.freeze(only_a[rows])
        self.freeze(only_b[rows])

    def _refine_or_join(self, atoms: Labels, sets: Labels) -> None:
        names, first, counts = np.unique(atoms, return_index=True, return_counts=True)
        once = counts == 1
        if once.any():
            atoms, parts = names[once], sets[first[once]]
            apart = ~np.isin(parts, atoms).any(1)  # two atoms that are parts of each other would be parts of themselves
            chosen = apart if apart.any() else slice(1)
            self.refine(atoms[chosen], parts[chosen])
            return
        flat = sets.reshape(-1)
        self.unite(np.repeat(atoms, sets.shape[1])[flat > 0], flat[flat > 0])

    def merged(self, dims: Sequence[tuple[Dim, int]]) -> Dim:
        """The labels of several dimensions flattened into one, the last one fastest.

        Args:
            dims: labels and length of each.
        """
        found: Dim = None
        length = 1
        for labels, size in dims:
            if found is None:
                found = None if labels is None else np.tile(labels, (length, 1))
            elif labels is None:
                found = np.repeat(found, size, 0)
            else:
                found = np.concatenate([np.repeat(found, size, 0), np.tile(labels, (length, 1))], 1)
            length *= size
        return None if found is None else _or_none(self.resolve(found))

    def split(self, labels: Dim, rows: int, cols: int) -> tuple[Dim, Dim]:
        """The labels of a dimension taken apart as `rows` x `cols`.

        Factors that lie on whole rows, or on whole columns, are theirs. Atoms that do neither and fill the rest, one at
        each position, turn out to be composite: of a new factor for the row and one for the column. Anything else joins
        along its row.
        """
        if labels is None or rows == 1:
            return None, labels
        if cols == 1:
            return labels, None
        labels = self.resolve(labels)
        by_row, by_col, rest = _classified(labels, rows, cols)
        if not (rest > 0).any():
            return _or_none(_tidy(by_row[::cols])), _or_none(_tidy(by_col[:cols]))
        atoms = rest.max(1)
        if ((rest > 0).sum(1) == 1).all() and len(np.unique(atoms)) == len(atoms):
            row, col = self.fresh(rows), self.fresh(cols)
            self.refine(atoms, np.concatenate([np.repeat(row, cols, 0), np.tile(col, (rows, 1))], 1))
        else:
            self._join_rows(rest.reshape(rows, cols, -1))
        return self.split(labels, rows, cols)

    def _join_rows(self, rest: NDArray[np.int32]) -> None:
        """Along each row, whatever lies there becomes one factor; a row of which some positions stay, stays."""
        for line in rest:
            held = line[line > 0]
            self.unite(held, np.full_like(held, held[0]) if len(held) else held)
            if (line.max(1) == 0).any():
                self.freeze(held[:, None])


def _classified(labels: Labels, rows: int, cols: int) -> tuple[Labels, Labels, Labels]:
    """The same array three times: with only the factors of whole rows, of whole columns, and of neither."""
    row = np.repeat(np.arange(rows, dtype=np.int64), cols)[:, None]
    col = np.tile(np.arange(cols, dtype=np.int64), rows)[:, None]
    names, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    place = place.reshape(labels.shape)
    rows_of = np.bincount(np.unique(place * rows + row) // rows, minlength=len(names))
    cols_of = np.bincount(np.unique(place * cols + col) // cols, minlength=len(names))
    held = labels > 0
    whole_rows = (counts == rows_of * cols)[place] & held
    whole_cols = (counts == cols_of * rows)[place] & held & ~whole_rows
    none = np.int32(0)
    return (
        np.where(whole_rows, labels, none),
        np.where(whole_cols, labels, none),
        np.where(held & ~whole_rows & ~whole_cols, labels, none),
    )


def _without(a: Labels, b: Labels) -> Labels:
    """In each row, what `a` has and `b` has not."""
    return np.where((a[:, :, None] == b[:, None, :]).any(2), np.int32(0), a)


def _or_none(labels: Labels) -> Dim:
    return labels if labels.shape[1] else None


def _tidy(labels: Labels) -> Labels:
    """Each set once, in descending order, without columns that hold nothing."""
    if labels.shape[1] > 1:
        labels = -np.sort(-labels, 1)
        twice = labels[:, 1:] == labels[:, :-1]
        if (twice & (labels[:, 1:] > 0)).any():
            labels[:, 1:][twice] = 0
            labels = -np.sort(-labels, 1)
    held = (labels > 0).any(0)
    return labels if held.all() else labels[:, held]
