"""Evidence: statistics merge, and randomness hangs on seed and name."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import Backward, Forward, Gradient, Group, InputGram, Stats, SubjectError

GROUP = Group("fc.weight", (2, 3))


def run(statistic, events, state=None):
    state = state or statistic.zero(GROUP)
    for event in events:
        state = statistic.update(state, event)
    return state


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_gradients_of_two_workers_merge_to_those_of_one(samples, data):
    cut = data.draw(st.integers(0, len(samples)))
    g = torch.Generator().manual_seed(0)
    events = [Backward(torch.randn(2, 3, generator=g), n) for n in samples]
    one, two = Gradient(), run(Gradient(), events[:cut])
    merged = one.merge(two, run(one, events[cut:]))
    torch.testing.assert_close(one.value(merged), one.value(run(one, events)))


def test_the_mean_gradient_counts_samples_and_not_batches():
    state = run(Gradient(), [Backward(torch.tensor([1.0]), 1), Backward(torch.tensor([5.0]), 3)])
    assert Gradient().value(state).item() == 4.0


def test_opposite_gradients_cancel():
    state = run(Gradient(), [Backward(torch.tensor([1.0, 2.0]), 2), Backward(torch.tensor([-1.0, 2.0]), 2)])
    assert Gradient().value(state).tolist() == [0.0, 2.0]


def test_gradients_of_a_bfloat16_model_are_summed_in_float32():
    state = run(Gradient(), [Backward(torch.ones(1, dtype=torch.bfloat16), 1)] * 257)
    assert state["sum"].item() == 257  # bfloat16 stops counting at 256


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_grams_of_two_workers_merge_to_that_of_all_tokens(tokens, data):
    cut = data.draw(st.integers(0, len(tokens)))
    g = torch.Generator().manual_seed(0)
    batches = [torch.randn(n, 3, generator=g) for n in tokens]
    events = [Forward(x, x) for x in batches]
    gram = InputGram()
    value = gram.value(gram.merge(run(gram, events[:cut]), run(gram, events[cut:])))
    x = torch.cat(batches).double()
    torch.testing.assert_close(value, x.T @ x / len(x))


def test_equal_statistics_are_one_key():
    assert len({Gradient(), Gradient(), InputGram()}) == 2


def test_a_statistic_that_was_never_collected_names_the_group():
    with pytest.raises(SubjectError, match=r"(?s)Gradient\(\) was never collected.*'fc\.weight'"):
        _ = Stats()[GROUP, Gradient()]


def draw(seed, name, purpose=""):
    return torch.rand(4, generator=Stats(seed=seed).rng(Group(name, (1,)), purpose)).tolist()


def test_a_generator_depends_on_seed_name_and_purpose():
    draws = [draw(0, "a"), draw(1, "a"), draw(0, "b"), draw(0, "a", "select")]
    assert draw(0, "a") == draws[0] and all(d not in draws[:i] for i, d in enumerate(draws))


def test_a_generator_does_not_depend_on_the_shape_of_the_group():
    first, second = (Stats(seed=3).rng(Group("a", shape)) for shape in ((2, 2), (9,)))
    assert first.initial_seed() == second.initial_seed()
