"""What layers do to the stream: against the formulas written as loops."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import BlockInfluence, Ends, Group, Passed, SpanAngle

GROUP = Group("blocks", (3,))
sizes, seeds = st.integers(1, 6), st.integers(0, 2**16)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def influence(*events):
    state = BlockInfluence().zero(GROUP)
    for event in events:
        state = BlockInfluence().update(state, event)
    return state


def angle(x, y):
    return math.acos(max(-1.0, min(1.0, float((x @ y) / (x.norm() * y.norm()))))) / math.pi


@given(sizes, sizes, seeds)
def test_influence_is_one_minus_the_mean_cosine_over_tokens(tokens, width, seed):
    x, y = draw(seed, 3, tokens, width).double(), draw(seed + 1, 3, tokens, width).double()
    found = BlockInfluence().value(influence(*(Passed(i, 3, x[i], y[i]) for i in range(3))))
    for i in range(3):
        slow = sum(float(a @ b / (a.norm() * b.norm())) for a, b in zip(x[i], y[i], strict=True)) / tokens
        torch.testing.assert_close(float(found[i]), 1 - slow)


@given(seeds, st.integers(1, 5))
def test_two_workers_equal_one(seed, cut):
    x, y = draw(seed, 6, 4), draw(seed + 1, 6, 4)
    whole = influence(Passed(1, 3, x, y))
    merged = BlockInfluence().merge(
        influence(Passed(1, 3, x[:cut], y[:cut])), influence(Passed(1, 3, x[cut:], y[cut:]))
    )
    torch.testing.assert_close(BlockInfluence().value(merged), BlockInfluence().value(whole))


@given(seeds, st.floats(0.1, 100))
def test_a_layer_that_only_scales_has_no_influence_and_one_that_turns_back_has_two(seed, scale):
    x = draw(seed, 5, 4)
    found = BlockInfluence().value(influence(Passed(0, 3, x, scale * x), Passed(1, 3, x, -x)))
    torch.testing.assert_close(found[:2], torch.tensor([0.0, 2.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_tokens_of_norm_zero_do_not_count():
    x, y = draw(0, 4, 3), draw(1, 4, 3)
    x[1], y[2] = 0, 0
    found = BlockInfluence().value(influence(Passed(0, 3, x, y)))
    rest = BlockInfluence().value(influence(Passed(0, 3, x[[0, 3]], y[[0, 3]])))
    torch.testing.assert_close(found, rest)
    assert BlockInfluence().value(influence(Passed(0, 3, 0 * x, y)))[0] == 1


@given(sizes, sizes, seeds)
def test_spans_are_angles_between_what_enters_the_first_and_leaves_the_last(samples, width, seed):
    x = draw(seed, 4, samples, width).double()
    found = SpanAngle().value(SpanAngle().update(SpanAngle().zero(GROUP), Ends(tuple(x[:3]), tuple(x[1:]))))
    for start in range(3):
        for n in range(1, 4):
            if start + n > 3:
                assert found[start, n - 1] == math.inf
            else:
                slow = sum(angle(a, b) for a, b in zip(x[start], x[start + n], strict=True)) / samples
                torch.testing.assert_close(float(found[start, n - 1]), slow, atol=1e-6, rtol=1e-6)


def test_no_span_reaches_over_a_layer_between_two_that_may_go():
    x = draw(0, 4, 2, 3)
    apart = Ends((x[0], x[2]), (x[1], x[3]))  # the second begins where something else ended
    found = SpanAngle().value(SpanAngle().update(SpanAngle().zero(GROUP), apart))
    assert found[0, 1] == math.inf and found[:, 0].isfinite().all()


@given(seeds)
def test_spans_of_two_workers_equal_those_of_one(seed):
    x, s = draw(seed, 4, 5, 3), SpanAngle()
    whole = s.update(s.zero(GROUP), Ends(tuple(x[:3]), tuple(x[1:])))
    parts = [s.update(s.zero(GROUP), Ends(tuple(p[:3]), tuple(p[1:]))) for p in (x[:, :2], x[:, 2:])]
    torch.testing.assert_close(s.value(s.merge(*parts)), s.value(whole))
