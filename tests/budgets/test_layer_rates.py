"""Layer rates: round by round against the closed form, and the last layer at half the rate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import secateur as sc
from secateur.budgets.layer_rates import last_density
from secateur.core import Stats, Target, kept_count

rates = st.floats(0.05, 0.9)


@given(st.integers(0, 12), rates, st.floats(0, 1))
def test_whole_rounds_compound(rounds, share, last):
    hidden = output = 1.0
    for _ in range(rounds):
        hidden, output = hidden * (1 - share), output * (1 - last * share)
    assert last_density(hidden, share, last) == pytest.approx(output, rel=1e-6)


def test_the_same_rate_everywhere_is_uniform():
    space = sc.structures.Weights().find(nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10)))
    _, counts = sc.budgets.LayerRates(0.2, 1.0).allocate(space, Stats(), Target(0.6))
    assert counts == {g.name: kept_count(0.6, g.size) for g in space}


def test_two_rounds_of_the_paper():
    space = sc.structures.Weights().find(nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 10)))
    _, counts = sc.budgets.LayerRates().allocate(space, Stats(), Target(0.36))
    assert counts == {"0.weight": 384, "1.weight": 243}  # 0.8^2 of 600, 0.9^2 of 300


def test_imp_by_layers_prunes_the_output_at_half_the_rate():
    task = sc.tasks.builtin_task("digits-flat")
    result = sc.prune(task.model(), "imp", sparsity=0.36, scope="layer", epochs=1, task=task)
    assert result.keep.counts == {"1.weight": 12288, "3.weight": 19200, "5.weight": 810}


@pytest.mark.parametrize("wrong", [{"share": 0.0}, {"share": 1.0}, {"last": 1.5}, {"last": -0.1}])
def test_rates_outside_their_range_are_refused(wrong):
    with pytest.raises(sc.RecipeError, match=r"0\.2 and 0\.5"):
        sc.budgets.LayerRates(**wrong)
