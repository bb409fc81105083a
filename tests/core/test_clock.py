"""Points of the training as users write them."""

import pytest

from secateur.core import Clock, RecipeError

CLOCK = Clock(0, leg_steps=100, legs=2, epoch_steps=30)


@pytest.mark.parametrize(
    "point, step", [(7, 7), (0.25, 50), ("2 epochs", 60), ("1 epoch", 30), ("0.5 epochs", 15), (0, 0), (1.0, 200)]
)
def test_a_point_is_steps_a_share_or_epochs(point, step):
    assert CLOCK.at(point) == step


def test_a_share_can_be_of_one_leg():
    assert CLOCK.at(0.25, of=CLOCK.leg_steps) == 25


@pytest.mark.parametrize("point", ["soon", "2 steps", "two epochs", "-1 epochs", "nan epochs", "inf epochs", "5", ""])
def test_words_that_name_no_moment_are_refused(point):
    with pytest.raises(RecipeError, match=r'(?s)no moment of training.*Gmp.*"2 epochs"'):
        CLOCK.at(point, where="Gmp")


def test_epochs_of_unknown_length_say_what_to_pass():
    with pytest.raises(RecipeError, match="epoch_steps="):
        Clock(0, 100).at("2 epochs")
