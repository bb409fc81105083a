"""Equal shares that empty no group: as `Uniform`, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.budgets import AtLeastOne, Uniform
from secateur.core import BudgetError, Group, Space, Stats, Target, kept_count

sizes = st.lists(st.integers(1, 20), min_size=1, max_size=4)


@given(sizes, st.floats(0, 0.99))
def test_it_is_uniform_or_refuses(sizes, sparsity):
    space = Space(tuple(Group(f"g{i}", (n,), floor=1) for i, n in enumerate(sizes)))
    plain = Uniform().allocate(space, Stats(), Target(sparsity))[1]
    if all(kept_count(sparsity, n) for n in sizes):
        assert AtLeastOne().allocate(space, Stats(), Target(sparsity))[1] == plain
        assert plain == {f"g{i}": kept_count(sparsity, n) for i, n in enumerate(sizes)}
    else:
        with pytest.raises(BudgetError, match="leaves none of"):
            AtLeastOne().allocate(space, Stats(), Target(sparsity))


def test_the_group_and_a_sparsity_that_fits_are_named():
    space = Space((Group("wide", (100,)), Group("heads", (4,))))
    with pytest.raises(BudgetError, match=r"(?s)none of 4 units.*'heads'.*0\.75 at most"):
        AtLeastOne().allocate(space, Stats(), Target(0.9))
    assert AtLeastOne().allocate(space, Stats(), Target(0.75))[1] == {"wide": 25, "heads": 1}
