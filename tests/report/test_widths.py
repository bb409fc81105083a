"""What is told of widths at which convolutions cost more than their multiplications say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.core.costs import Layer
from secateur.engine.measure import in_steps
from secateur.report.table import result_text


def conv(made, taken, kind="Conv2d", macs=1000):
    return Layer("weight", kind, (made, taken, 3, 3), made * taken * 9, made * taken * 9, 4 * made * taken * 9, macs)


@given(st.integers(1, 200), st.integers(16, 200))
def test_channels_count_as_the_next_multiple_of_sixteen(made, taken):
    up = [next(n for n in range(c, c + 16) if n % 16 == 0) for c in (made, taken)]
    macs = 7 * made * taken
    assert in_steps(conv(made, taken, macs=macs)) == 7 * up[0] * up[1]


@pytest.mark.parametrize("row", [conv(32, 3), conv(32, 1), conv(17, 16, "ConvTranspose2d"), conv(17, 17, "Linear")])
def test_pictures_depthwise_filters_and_other_layers_count_as_they_are(row):
    assert in_steps(row) == row.macs


def told(macs, steps):
    """Of a convolution cut from 1,000 MACs to these."""
    costs = {"metrics": {}, "params": 10, "bytes": 40}
    before, after = costs | {"macs": 1000, "macs_in_steps": 1000}, costs | {"macs": macs, "macs_in_steps": steps}
    sparsity = {"kept": 5, "units": 10, "skipped": {}}
    return result_text({"before": before, "after": after | {"params": 5}, "sparsity": sparsity})


def test_widths_that_do_not_pay_are_told_with_what_pays():
    text = told(500, 620)
    assert "in steps of 16 channels, as convolutions run, 62.0%" in text and "--latency" in text


@pytest.mark.parametrize(("macs", "steps"), [(500, 510), (1000, 1100)])
def test_nothing_is_told_where_widths_pay_or_no_multiplication_went(macs, steps):
    assert "in steps" not in told(macs, steps)
