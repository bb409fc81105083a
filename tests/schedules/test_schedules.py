"""When what goes: moves at every step of the clock, against the closed forms."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import Clock, Kind, RandomPick, RecipeError, Target
from secateur.schedules import CubicGradual, Iterative, LinearGradual, OneShot, Rewinding, Stepwise
from secateur.schedules.gradual import ramp
from secateur.schedules.iterative import geometric
from secateur.schedules.rewinding import levels


def moves(schedule, clock, sparsity):
    """All moves of a training, as (step, move)."""
    target = Target(sparsity)
    clocks = (replace(clock, step=step) for step in range(clock.total + 1))
    return [(c.step, m) for c in clocks for m in schedule.moves(c, target)]


def sparsities(schedule, clock, sparsity):
    return {step: m.sparsity for step, m in moves(schedule, clock, sparsity)}


sparsity = st.floats(0.01, 0.99)


@given(sparsity, st.floats(0, 1))
def test_the_cube_is_the_initial_sparsity_an_eighth_short_and_the_final_one(final, share):
    initial = share * final
    assert ramp(0, initial, final) == pytest.approx(initial)
    assert ramp(0.5, initial, final) == pytest.approx(final - (final - initial) / 8)
    assert ramp(1, initial, final) == final


def test_the_ramp_is_flat_before_and_after():
    assert (ramp(-1, 0.2, 0.8), ramp(2, 0.2, 0.8)) == (pytest.approx(0.2), 0.8)


def test_gmp_prunes_at_equation_1_and_at_no_other_step():
    found = sparsities(CubicGradual(begin=10, end=50, every=10, initial=0.1), Clock(0, 100), 0.9)
    assert found == pytest.approx({t: 0.9 - 0.8 * (1 - (t - 10) / 40) ** 3 for t in (10, 20, 30, 40, 50)})


def test_the_linear_ramp_is_a_line():
    found = sparsities(LinearGradual(begin=0, end=40, every=10), Clock(0, 40), 0.8)
    assert found == pytest.approx({10: 0.2, 20: 0.4, 30: 0.6, 40: 0.8})


spans = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 40)).map(lambda t: (*sorted(t[:2]), t[2]))


@pytest.mark.parametrize("kind", [CubicGradual, LinearGradual])
@given(spans, sparsity, st.floats(0, 1))
def test_a_ramp_rises_and_ends_exactly_at_the_target(kind, span, final, share):
    begin, end, every = span
    schedule, clock = kind(begin, end, every, share * final), Clock(0, 30)
    schedule.check(clock, Target(final))
    found = sparsities(schedule, clock, final)
    assert list(found.values()) == sorted(found.values())
    assert max(found) == end and found[end] == final
    assert all(begin <= t <= end and (t == end or (t - begin) % every == 0) for t in found)


def test_a_ramp_whose_end_is_no_multiple_of_every_prunes_at_the_end_too():
    assert list(sparsities(LinearGradual(0, 10, 4), Clock(0, 20), 0.5)) == [4, 8, 10]


def test_the_first_move_of_a_ramp_from_zero_prunes_nothing_and_is_left_out():
    assert 0 not in sparsities(CubicGradual(0, 10, 5), Clock(0, 10), 0.5)


def test_a_ramp_in_epochs_and_shares_is_one_in_steps():
    clock = Clock(0, 100, epoch_steps=20)
    written = sparsities(CubicGradual("1 epoch", 0.8, "0.5 epochs"), clock, 0.9)
    assert written == sparsities(CubicGradual(20, 80, 10), clock, 0.9)


def test_a_share_too_small_for_a_step_prunes_at_every_step():
    assert list(sparsities(CubicGradual(0, 4, 0.001, 0.1), Clock(0, 10), 0.5)) == [0, 1, 2, 3, 4]


def test_without_training_a_ramp_happens_at_once():
    assert sparsities(CubicGradual(), Clock(0, 0), 0.9) == {0: 0.9}


@pytest.mark.parametrize(
    "settings, what",
    [
        ({"begin": 50, "end": 20}, "begins at step 50 and ends at 20"),
        ({"begin": -1}, "begins at step -1"),
        ({"end": 101}, "ends at step 101, beyond the training's 100"),
        ({"end": 1.5}, "ends at step 150"),
        ({"every": 0}, "every is 0"),
        ({"every": -5}, "every is -5"),
        ({"every": -0.1}, r"every is -0\.1"),
        ({"every": 0.0}, r"every is 0\.0"),
        ({"every": "0 epochs"}, "every is '0 epochs'"),
        ({"initial": 0.95}, r"starts at a sparsity of 0\.95 and ends at 0\.9"),
        ({"initial": -0.1}, r"starts at a sparsity of -0\.1"),
        ({"end": "2 weeks"}, "'2 weeks' is no moment"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [CubicGradual, LinearGradual])
def test_a_ramp_that_does_not_fit_says_why(kind, settings, what):
    with pytest.raises(RecipeError, match=f"(?s){what}.*{kind.__name__}"):
        kind(**settings).check(Clock(0, 100, epoch_steps=10), Target(0.9))


def test_one_shot_prunes_once_before_the_first_step():
    assert sparsities(OneShot(), Clock(0, 50), 0.7) == {0: 0.7}


@pytest.mark.parametrize("at, step", [(10, 10), (0.5, 25), ("2 epochs", 20), (1.0, 50)])
def test_one_shot_prunes_at_its_point(at, step):
    clock = Clock(0, 50, epoch_steps=10)
    OneShot(at).check(clock, Target(0.7))
    assert sparsities(OneShot(at), clock, 0.7) == {step: 0.7}


def test_one_shot_after_the_training_is_refused():
    with pytest.raises(RecipeError, match="step 60 of 50"):
        OneShot(60).check(Clock(0, 50), Target(0.7))


@given(sparsity, st.integers(1, 8))
def test_iterative_removes_the_same_share_of_what_is_left_each_round(final, rounds):
    found = list(sparsities(Iterative(rounds), Clock(0, 5, rounds), final).values())
    densities = [1.0] + [1 - s for s in found]
    ratios = [b / a for a, b in pairwise(densities)]
    assert len(found) == rounds and found[-1] == final
    assert ratios == pytest.approx([(1 - final) ** (1 / rounds)] * rounds)


def test_iterative_prunes_at_the_start_of_each_leg_and_not_after_the_last():
    assert list(sparsities(Iterative(3), Clock(0, 5, 3), 0.9)) == [0, 5, 10]


def test_iterative_has_a_leg_for_each_round():
    assert Iterative(4).legs(Target(0.5)) == 4


def test_iterative_without_training_prunes_at_once():
    assert sparsities(Iterative(3), Clock(0, 0, 3), 0.9) == {0: 0.9}


def test_the_last_round_lands_on_the_target_itself():
    assert geometric(0.9, 1.0) == 0.9


def test_iterative_prunes_at_least_once():
    with pytest.raises(RecipeError, match="rounds is 0"):
        Iterative(0)


@pytest.mark.parametrize(
    "final, share, wanted",
    [(0.2, 0.2, 1), (0.36, 0.2, 2), (0.488, 0.2, 3), (0.49, 0.2, 4), (0.9, 0.2, 11), (0.1, 0.5, 1)],
)
def test_as_many_levels_as_it_takes(final, share, wanted):
    assert levels(final, share) == wanted


@given(sparsity, st.floats(0.05, 0.9))
def test_levels_reach_the_target_and_no_fewer_would(final, share):
    n = levels(final, share)
    assert (1 - share) ** n <= (1 - final) * (1 + 1e-7) and (
        n == 1 or (1 - share) ** (n - 1) > (1 - final) * (1 - 1e-7)
    )


@given(sparsity, st.floats(0.05, 0.9))
def test_the_density_after_k_prunings_is_the_share_to_the_kth_power_and_the_last_is_the_target(final, share):
    schedule = Rewinding(share)
    found = list(sparsities(schedule, Clock(0, 3, schedule.legs(Target(final))), final).values())
    assert found[:-1] == pytest.approx([1 - (1 - share) ** k for k in range(1, len(found))])
    assert found[-1] == final and len(found) == levels(final, share)
    assert found == sorted(found)


def rewinding(**settings):
    schedule = Rewinding(0.5, **settings)
    return moves(schedule, Clock(0, 10, schedule.legs(Target(0.875)), epoch_steps=4), 0.875)


def test_rewinding_trains_densely_first_and_trains_the_ticket_last():
    assert Rewinding().starts_dense
    assert [step for step, _ in rewinding()] == [10, 20, 30]  # of 40


@pytest.mark.parametrize("to, step", [(0, 0), (3, 3), (0.2, 2), ("0.5 epochs", 2)])
def test_every_pruning_rewinds_to_the_point_of_the_first_leg(to, step):
    assert [m.rewind for _, m in rewinding(to=to)] == [step] * 3


def test_rewinding_to_the_end_keeps_the_trained_weights():
    assert [m.rewind for _, m in rewinding(to="end")] == [None] * 3


def test_reinit_draws_a_fresh_initialisation_for_the_last_leg_only():
    assert [m.rewind for _, m in rewinding(control="reinit", to=2)] == [2, 2, "fresh"]


def test_random_mask_redraws_the_final_counts_and_rewinds_after_it():
    *before, (step, pruned), (again, redrawn) = rewinding(control="random-mask", to=2)
    assert [m.kind for _, m in before] == [Kind.PRUNE] * 2 and step == again == 30
    assert (pruned.kind, pruned.sparsity, pruned.rewind) == (Kind.PRUNE, 0.875, None)
    assert (redrawn.kind, redrawn.sparsity, redrawn.rewind) == (Kind.REDRAW, None, 2)
    assert redrawn.select == RandomPick()


def test_the_ticket_redraws_nothing():
    assert {m.kind for _, m in rewinding()} == {Kind.PRUNE}


def test_without_a_share_everything_goes_at_once_after_the_first_leg():
    schedule = Rewinding(None, to=3)
    found = moves(schedule, Clock(0, 10, schedule.legs(Target(0.875))), 0.875)
    assert [(step, m.sparsity, m.rewind) for step, m in found] == [(10, 0.875, 3)] and schedule.legs(Target(0.875)) == 2


@pytest.mark.parametrize("share", [0, 1, -0.2, 1.2])
def test_a_share_that_is_none_names_the_papers(share):
    with pytest.raises(RecipeError, match=r"the paper removes 0\.2"):
        Rewinding(share)


def test_a_control_needs_something_to_rewind_to():
    with pytest.raises(RecipeError, match="'reinit' has nothing to compare with"):
        Rewinding(to="end", control="reinit")


@pytest.mark.parametrize("to", [10, 11, 1.0, -1])
def test_rewinding_beyond_the_leg_is_refused(to):
    with pytest.raises(RecipeError, match="a leg has steps 0 to 9"):
        Rewinding(to=to).check(Clock(0, 10, 3), Target(0.5))


def test_rewinding_needs_training():
    with pytest.raises(RecipeError, match="no training between the prunings"):
        Rewinding().check(Clock(0, 0, 3), Target(0.5))


@given(st.integers(1, 40), sparsity)
def test_stepwise_cuts_lie_on_a_line_at_one_moment_and_end_at_the_target(steps, final):
    found = moves(Stepwise(steps, at=3), Clock(0, 10), final)
    assert [step for step, _ in found] == [3] * steps
    assert [m.sparsity for _, m in found] == pytest.approx([final * (i + 1) / steps for i in range(steps)])
    assert found[-1][1].sparsity == final


def test_stepwise_refuses_no_cut_and_a_moment_after_the_training():
    with pytest.raises(RecipeError, match="1 or more"):
        Stepwise(0)
    with pytest.raises(RecipeError, match="step 11 of 10"):
        Stepwise(2, at=11).check(Clock(0, 10), Target(0.5))
