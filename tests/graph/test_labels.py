"""The algebra of labels against what it means: a position vanishes if any of its factors is removed."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secateur.graph.labels import Algebra

sizes, seeds = st.integers(2, 6), st.integers(0, 2**32 - 1)
steps = st.lists(st.tuples(st.sampled_from(["equate", "merge", "split", "freeze"]), seeds), min_size=1, max_size=8)
_PASSES = 20


class Program:
    """Dimensions and what is said of them, said again until nothing new is learnt, as a flow does."""

    def __init__(self, lengths, drawn):
        self.algebra = Algebra()
        self.start = [(self.algebra.fresh(n), n) for n in lengths]
        self.drawn = drawn
        self.settled = False
        for _ in range(_PASSES):
            before = self.algebra.version
            self.facts = []
            self._say()
            if self.algebra.version == before:
                self.settled = True
                break

    def _say(self):
        known = list(self.start)
        for what, seed in self.drawn:
            rng = np.random.default_rng(seed)
            a, n = known[rng.integers(len(known))]
            if what == "equate":
                b, _ = known[rng.choice([i for i, (_, m) in enumerate(known) if m == n])]
                self.facts.append(("equate", a, b, n))
                known.append((self.algebra.equate(a, b), n))
            elif what == "merge":
                b, m = known[rng.integers(len(known))]
                if n * m <= 24:
                    made = self.algebra.merged([(a, n), (b, m)])
                    self.facts.append(("product", made, a, b, n, m))
                    known.append((made, n * m))
            elif what == "split":
                rows = int(rng.choice([r for r in range(1, n + 1) if n % r == 0]))
                row, col = self.algebra.split(a, rows, n // rows)
                self.facts.append(("product", a, row, col, rows, n // rows))
                known += [(row, rows), (col, n // rows)]
            else:
                self.algebra.freeze(a)
                self.facts.append(("frozen", a, n))
        self.known = known

    def vanish(self, labels, n, gone):
        """Which positions vanish."""
        return np.zeros(n, bool) if labels is None else gone[self.algebra.resolve(labels)].any(1)

    def removed(self, seed):
        """Any factors but 0, which is nobody."""
        gone = np.random.default_rng(seed).random(self.algebra.size) < 0.3
        gone[0] = False
        return gone


@given(st.lists(st.sampled_from([2, 3, 4, 6, 12]), min_size=1, max_size=5), steps, seeds)
def test_whatever_is_removed_everything_that_was_said_stays_true(lengths, drawn, seed):
    program = Program(lengths, drawn)
    gone = program.removed(seed)
    assert program.settled
    for kind, *rest in program.facts:
        if kind == "equate":
            a, b, n = rest
            assert np.array_equal(program.vanish(a, n, gone), program.vanish(b, n, gone))
        elif kind == "product":
            whole, row, col, n, m = rest
            product = program.vanish(row, n, gone)[:, None] | program.vanish(col, m, gone)[None]
            assert np.array_equal(program.vanish(whole, n * m, gone), product.reshape(-1))
        else:
            assert not program.vanish(*rest, gone).any()


@given(st.integers(2, 8), st.lists(st.tuples(seeds, seeds), max_size=6))
def test_equating_single_factors_is_the_closure_by_brute_force(n, pairs):
    algebra = Algebra()
    atoms = algebra.fresh(n)
    related = np.eye(n, dtype=bool)
    for x, y in pairs:
        p, q = (np.random.default_rng(s).permutation(n) for s in (x, y))
        algebra.equate(atoms[p], atoms[q])
        related[p, q] = related[q, p] = True
    for k in range(n):
        related |= related[:, k : k + 1] & related[k : k + 1]
    now = algebra.resolve(atoms)[:, 0]
    assert np.array_equal(now[:, None] == now[None], related)


@given(sizes, sizes)
def test_a_merged_dimension_splits_into_what_it_was_merged_of(n, m):
    algebra = Algebra()
    row, col = algebra.fresh(n), algebra.fresh(m)
    found = algebra.split(algebra.merged([(row, n), (col, m)]), n, m)
    assert np.array_equal(found[0], row)
    assert np.array_equal(found[1], col)


@given(sizes, sizes)
def test_a_merge_with_an_unlabelled_dimension_splits_into_the_labelled_one(n, m):
    algebra = Algebra()
    row = algebra.fresh(n)
    found = algebra.split(algebra.merged([(row, n), (None, m)]), n, m)
    assert np.array_equal(found[0], row)
    assert found[1] is None


@given(sizes, sizes)
def test_a_split_dimension_merges_into_itself(n, m):
    algebra = Algebra()
    whole = algebra.fresh(n * m)
    row, col = algebra.split(whole, n, m)
    assert np.array_equal(algebra.merged([(row, n), (col, m)]), algebra.resolve(whole))


@given(sizes, sizes, sizes)
def test_splitting_at_once_and_in_two_steps_is_the_same(a, b, c):
    algebra = Algebra()
    whole = algebra.fresh(a * b * c)
    first, rest = algebra.split(whole, a, b * c)
    second, third = algebra.split(rest, b, c)
    left, last = algebra.split(whole, a * b, c)
    assert np.array_equal(algebra.resolve(left), algebra.merged([(first, a), (second, b)]))
    assert np.array_equal(algebra.resolve(last), algebra.resolve(third))


@given(sizes, sizes)
def test_a_product_that_meets_a_plain_dimension_keeps_its_rows_and_columns_apart(n, m):
    algebra = Algebra()
    row, col = algebra.fresh(n), algebra.fresh(m)
    algebra.equate(algebra.merged([(row, n), (col, m)]), algebra.fresh(n * m))
    assert len(np.unique(algebra.resolve(np.concatenate([row, col])))) == n + m


@given(sizes, seeds)
def test_equal_dimensions_of_fresh_factors_lose_nothing_but_their_difference(n, seed):
    algebra = Algebra()
    a, b = algebra.fresh(n), algebra.fresh(n)
    algebra.equate(a, b[np.random.default_rng(seed).permutation(n)])
    assert len(np.unique(algebra.resolve(np.concatenate([a, b])))) == n


@given(st.lists(st.sampled_from([2, 3, 4, 6]), min_size=1, max_size=4), steps, seeds)
def test_said_once_more_nothing_new_is_learnt(lengths, drawn, seed):
    program = Program(lengths, drawn)
    before = program.algebra.version
    program._say()
    assert program.algebra.version == before


@given(sizes, st.integers(1, 3), seeds)
@example(6, 3, 0)  # atoms that are parts of each other
def test_in_whatever_order_positions_are_written_the_same_ones_go_together(n, width, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    a, b = rng.integers(1, 2 * n + 1, (2, n, width)).astype(np.int32)

    def learnt(rows):
        algebra = Algebra()
        atoms = algebra.fresh(2 * n)
        algebra.equate(a[rows], b[rows])
        return [frozenset(row[row > 0].tolist()) for row in algebra.resolve(atoms)]

    assert learnt(np.arange(n)) == learnt(order)


@given(sizes, seeds)
def test_a_frozen_position_never_vanishes_and_its_neighbours_may(n, seed):
    algebra = Algebra()
    atoms = algebra.fresh(n)
    which = np.random.default_rng(seed).random(n) < 0.5
    algebra.freeze(atoms[which])
    assert np.array_equal(algebra.stays_put(atoms), which)


def test_what_meets_a_dimension_that_stays_is_frozen():
    algebra = Algebra()
    atoms = algebra.fresh(3)
    assert algebra.equate(atoms, None) is None
    assert algebra.stays_put(atoms).all()


def test_a_factor_frozen_later_tells_what_it_was():
    algebra = Algebra()
    atoms = algebra.fresh(2)
    algebra.freeze(atoms)
    assert [algebra.last_of(int(atom)) for atom in atoms[:, 0]] == atoms[:, 0].tolist()


def test_a_part_of_a_composite_factor_that_is_frozen_leaves_the_other():
    algebra = Algebra()
    whole = algebra.fresh(6)
    row, col = algebra.split(whole, 2, 3)
    algebra.freeze(row)
    assert np.array_equal(algebra.resolve(whole), np.tile(algebra.resolve(col), (2, 1)))


def test_the_tables_grow_beyond_a_thousand_factors():
    algebra = Algebra()
    a, b = algebra.fresh(1500), algebra.fresh(1500)
    algebra.equate(a, b)
    assert np.array_equal(algebra.resolve(a), algebra.resolve(b))


def test_dimensions_of_different_length_are_never_one():
    algebra = Algebra()
    with pytest.raises(AssertionError):
        algebra.equate(algebra.fresh(2), algebra.fresh(3))
