"""Targets that are costs, met by trying shares."""

import pytest
import torch

from secateur.core import BudgetError, Choice, Group, Keep, Space
from secateur.engine.fitting import Wanted, fitted

SIZES = (8, 16, 40)


def space():
    """Units cost 1 each; every group keeps one."""
    groups = tuple(Group(f"g{i}", (n,), floor=1) for i, n in enumerate(SIZES))
    cost = lambda keep: float(sum(int(keep[g.name].sum()) if g.name in keep else g.size for g in groups))  # noqa: E731
    return Space(groups, totals={"units": cost})


def choose(share):
    """The first units of all groups together go, and no more than floors allow."""
    stay = round((1 - share) * sum(SIZES))
    if stay < len(SIZES):
        raise BudgetError("floors", where="here", mend="less")
    counts, left = [1] * len(SIZES), stay - len(SIZES)
    for i, n in enumerate(SIZES):
        counts[i] += min(left, n - 1)
        left -= counts[i] - 1
    return Choice(Keep({f"g{i}": torch.arange(n) < counts[i] for i, n in enumerate(SIZES)}))


@pytest.mark.parametrize("most", [3, 4, 7, 20, 63, 64])
def test_every_cost_down_to_that_of_the_floors_is_met(most):
    chosen = fitted(space(), Wanted("units", most, 64), choose)
    assert sum(chosen.keep.counts.values()) == most


def test_less_than_the_floors_is_refused_and_says_how_much_there_can_be():
    with pytest.raises(BudgetError, match=r"units=0\.0469 or more"):
        fitted(space(), Wanted("units", 2, 64), choose)


def test_only_the_last_step_to_a_target_warns(caplog):
    coarse = lambda share: choose(0.0 if share < 0.5 else 0.5)  # noqa: E731
    fitted(space(), Wanted("units", 50, 64, last=False), coarse)
    assert not caplog.records
    fitted(space(), Wanted("units", 50, 64), coarse)
    assert "units=0.7812 was asked for" in caplog.text
