"""How long what is left trains from scratch: epochs as the dense model, or as many multiplications."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import RecipeError, Task, Training
from secateur.engine.methods import recovery_from
from secateur.recovery import ScratchB, ScratchE, stretched

TASK = Task(train=[], test=[], training=Training(epochs=12, optimizer="sgd", lr=0.1, lr_schedule="step"))


@given(st.integers(1, 300), st.integers(1, 10**9), st.floats(0.01, 1))
def test_scratch_b_takes_the_most_whole_epochs_that_cost_no_more_than_the_dense_training(epochs, dense, share):
    left = max(1, round(dense * share))
    took = stretched(epochs, dense / left)
    assert took == int(took) and took >= epochs
    slack = 1e-6 * epochs * dense  # a quotient of floats
    assert took * left <= epochs * dense + slack < (took + 1) * left + 2 * slack


def test_the_numbers_of_the_paper():
    assert stretched(160, 1 / 0.5) == 320
    assert stretched(12, 10 / 6) == 20
    assert stretched(90, 3.7, most=2) == 180 == stretched(90, 2, most=2)
    assert stretched(90, 1.5, most=2) == 135


def test_a_part_of_an_epoch_is_not_rounded_away():
    assert stretched(0.5, 1.5) == 0.5


def test_both_follow_the_dense_recipe_in_everything_but_its_length():
    e, b = ScratchE().training(TASK, 1.7), ScratchB().training(TASK, 1.7)
    assert (e.epochs, b.epochs) == (12, 20)
    assert {**vars(e), "epochs": 0} == {**vars(b), "epochs": 0} == {**vars(TASK.training), "epochs": 0}


def test_other_epochs_of_the_dense_recipe_are_stretched_likewise():
    assert ScratchE(epochs=4).training(TASK, 3).epochs == 4
    assert ScratchB(epochs=4).training(TASK, 3).epochs == 12


def test_their_names_are_those_of_the_paper():
    assert recovery_from("scratch-e") == (ScratchE(),)
    assert recovery_from("scratch-b(flops_model=ideal, most=2)") == (ScratchB(flops_model="ideal", most=2.0),)
    assert recovery_from("scratch-b(architecture=uniform)") == (ScratchB(architecture="uniform"),)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": -1.0}, {"epochs": float("nan")}])
def test_a_length_of_nothing_is_refused(wrong):
    for scratch in (ScratchE, ScratchB):
        with pytest.raises(RecipeError, match="above 0"):
            scratch(**wrong)


def test_a_cap_below_the_dense_length_is_refused():
    with pytest.raises(RecipeError, match=r"most is 0\.5"):
        ScratchB(most=0.5)
